"""One list of work for the workers of an Apache Beam pipeline, on other machines perhaps."""

from collections.abc import Callable, Iterable

from lit_tf.errors import extra


def run(items: Iterable, make_worker: Callable[[], Callable], options: list[str]) -> None:
    """Lets the workers of a pipeline process every item; returns when all are done.

    Args:
        items: what there is to do. Beam has to be able to send it: numbers, UTF-8, tuples.
        make_worker: called once in every worker process, since reading a tower takes long; returns
            a function of an item. Both must be picklable, and an item may be tried again.
        options: Beam's own options, such as ["--runner=DataflowRunner", ...]; by default its
            DirectRunner, on this machine.

    Raises:
        MissingPackageError: Apache Beam is not installed.
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
