"""One list of work for the workers of an Apache Beam pipeline, on other machines perhaps."""

from collections.abc import Callable, Iterable

from lit_tf.errors import extra


def run(items: Iterable, make_worker: Callable[[], Callable], options: list[str]) -> None:
    """Lets the workers of a pipeline process every item, perhaps twice; returns when all are done.

    `make_worker` is called once in every worker process. It and the items must be picklable.
    """
    with extra("beam"):
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

    class Work(beam.DoFn):
        """Deals with one item."""

        def setup(self):
            self._work = make_worker()

        def process(self, item):
            self._work(item)
            yield 1

    items = list(items)
    if items:
        with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
            _ = pipeline | beam.Create(items) | beam.Reshuffle() | beam.ParDo(Work())
