/* A SavedModel in a program that has no Python: TensorFlow's C API, as Go, Java and Rust use it.
 *
 *   lit-tf export LiT-digits served/1 --saved-model
 *   TF=$(python -c "import tensorflow as tf; print(tf.sysconfig.get_lib())")
 *   TEXT=$(python -c "import tensorflow_text as t; print(t.__path__[0])")/python/ops
 *   gcc -o serve examples/serve_saved_model.c -I$TF/include -L$TF -Wl,-rpath,$TF \
 *       -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2
 *   ./serve served/1 PICTURE.png $TEXT                                 # the picture's embedding
 *   ./serve served/1 PICTURE.png $TEXT "a red 42" "a three next to a seven"   # probabilities
 *
 * A folder exported with --parts image needs no $TEXT.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

static TF_Status *status;

static void check(const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

/* Registers the operations of every shared library in a folder: tensorflow-text's. */
static void load_operations(const char *folder) {
  char pattern[4096];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s/*.so", folder);
  if (glob(pattern, 0, NULL, &found)) {
    fprintf(stderr, "%s: no *.so there; expected tensorflow_text/python/ops\n", folder);
    exit(1);
  }
  for (size_t i = 0; i < found.gl_pathc; i++) {
    TF_LoadLibrary(found.gl_pathv[i], status);
    check(found.gl_pathv[i]);
  }
  globfree(&found);
}

/* A string tensor of shape (count). TensorFlow takes any bytes, so lengths are passed along. */
static TF_Tensor *strings(char **data, const size_t *lengths, int64_t count) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString *items = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; i++) {
    TF_StringInit(&items[i]);
    TF_StringCopy(&items[i], data[i], lengths[i]);
  }
  return tensor;
}

/* A signature's input NAME is the placeholder SIGNATURE_NAME. */
static TF_Output input(TF_Graph *graph, const char *signature, const char *name) {
  char full[256];
  snprintf(full, sizeof full, "%s_%s", signature, name);
  TF_Output out = {TF_GraphOperationByName(graph, full), 0};
  if (out.oper) return out;
  fprintf(stderr, "the SavedModel has no signature %s with an input %s\n", signature, name);
  exit(1);
}

/* What reads the placeholder is the signature's function; its outputs are sorted by their names. */
static TF_Output output(TF_Output placeholder, int index) {
  TF_Input consumer;
  TF_OperationOutputConsumers(placeholder, &consumer, 1);
  return (TF_Output){consumer.oper, index};
}

static char *read_file(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) {
    perror(path);
    exit(1);
  }
  *length = ftell(file);
  rewind(file);
  char *data = malloc(*length + 1);
  if (!data || fread(data, 1, *length, file) != *length) {
    perror(path);
    exit(1);
  }
  fclose(file);
  return data;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s FOLDER IMAGE [FOLDER_OF_TEXT_OPERATIONS [TEXT...]]\n", argv[0]);
    return 2;
  }
  status = TF_NewStatus();
  if (argc > 3) load_operations(argv[3]); /* before the graph that uses them */

  const char *tags[] = {"serve"};
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(argv[1]);

  size_t length;
  char *image = read_file(argv[2], &length);
  TF_Tensor *feeds[2] = {strings(&image, &length, 1)}, *answer = NULL;
  TF_Output inputs[2], wanted;
  int texts = argc > 4 ? argc - 4 : 0;
  if (texts) { /* compare: image_bytes, text -> logits, probabilities */
    size_t *lengths = malloc(texts * sizeof *lengths);
    for (int i = 0; i < texts; i++) lengths[i] = strlen(argv[4 + i]);
    feeds[1] = strings(argv + 4, lengths, texts);
    free(lengths);
    inputs[0] = input(graph, "compare", "image_bytes");
    inputs[1] = input(graph, "compare", "text");
    wanted = output(inputs[0], 1);
  } else { /* encode_image_bytes: image_bytes -> embedding */
    inputs[0] = input(graph, "encode_image_bytes", "image_bytes");
    wanted = output(inputs[0], 0);
  }
  TF_SessionRun(session, NULL, inputs, feeds, texts ? 2 : 1, &wanted, &answer, 1, NULL, 0, NULL,
                status);
  check("running the signature");

  const float *values = TF_TensorData(answer); /* (1, texts), or (1, width) */
  for (int64_t i = 0; i < TF_Dim(answer, 1); i++)
    printf(texts ? "%.9g  %s\n" : "%.9g\n", values[i], texts ? argv[4 + i] : "");

  TF_DeleteTensor(answer);
  for (int i = 0; i < (texts ? 2 : 1); i++) TF_DeleteTensor(feeds[i]);
  free(image);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
