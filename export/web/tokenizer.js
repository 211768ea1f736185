// Texts to the ids of lit_tf.tokenizers.

// Returns a function from a text to {ids, cut: whether it has more than fit}; `how` is the manifest's
// `tokenizing`.
export async function makeTokenizer(how, vocabulary, runtime) {
  const { length, eos, pad = 0 } = how, bert = how.kind === "bert";
  const encode = bert ? wordPiece(vocabulary) : await sentencePiece(vocabulary, how, runtime);
  return (text) => {
    const end = bert ? [] : [eos], all = encode(text), most = length - end.length;
    const ids = [...all.slice(0, most), ...end, ...Array(length).fill(pad)].slice(0, length);
    return { ids, cut: all.length > most };
  };
}

// WordPiece: the algorithm that lit_tf/texts/wordpiece.py describes.

// Punctuation, ASCII symbols and the ideographs that BERT splits into single characters.
const ALONE =
  "\\p{P}$+<=>^`|~\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}" +
  "\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}";
const WORD = new RegExp(`[${ALONE}]|[^${ALONE}\\p{Cc}\\p{Cf} ]+`, "gu");

function wordPiece(vocabulary) {
  const lines = new TextDecoder().decode(vocabulary).split(/\r?\n/);
  const ids = new Map(lines.map((piece, id) => [piece, id]));

  function encodeWord(word) {
    const chars = [...word], out = [];
    if (new TextEncoder().encode(word).length > 100) return ids.get("[UNK]");
    for (let start = 0, end; start < chars.length; start = end) {
      const id = () => ids.get((start ? "##" : "") + chars.slice(start, end).join(""));
      for (end = chars.length; id() === undefined && end > start; ) end--;
      if (end === start) return ids.get("[UNK]");
      out.push(id());
    }
    return out;
  }

  return (text) => [ids.get("[CLS]"), ...splitWords(text).flatMap(encodeWord)];
}

// Returns the words of a text, folded, as BERT's basic tokenizer cuts them.
function splitWords(text) {
  const chars = [...text.replace(/\p{Default_Ignorable_Code_Point}/gu, "")];
  return chars.map(fold).join("").normalize("NFKD").replace(/\p{Mn}/gu, "").match(WORD) ?? [];
}

function fold(char) {
  for (let i = 0; i < 2; i++) char = Array.from(char.normalize("NFKC"), foldCase).join("");
  return char;
}

// Upper and then lower case is full case folding, but for dotless i and Cherokee.
function foldCase(char) {
  if (char === "\u0131") return char;
  const upper = char.toUpperCase();
  return /\p{Script=Cherokee}/u.test(char) ? upper : upper.toLowerCase();
}

// sentencepiece: its library as WebAssembly.
async function sentencePiece(vocabulary, { lowercase, size, unk }, runtime) {
  const { default: create } = await import(runtime + "sentencepiece.js");
  const library = await create({ printErr() {} });
  const processor = new library.SentencePieceProcessor();
  const view = (value, use) => {
    const string = new library.StringView(value), inner = string.getView(), result = use(inner);
    inner.delete();
    string.delete();
    return result;
  };
  library.FS.writeFile("model", vocabulary);
  view("model", (name) => processor.Load(name).delete());
  library.FS.unlink("model");

  return (text) => {
    if (lowercase) text = text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
    const found = view(new TextEncoder().encode(text), (utf8) => processor.EncodeAsIds(utf8));
    const known = (id) => (id < size ? id : unk); // no sentinels
    const ids = Array.from({ length: found.size() }, (_, i) => known(found.get(i)));
    found.delete();
    return ids;
  };
}
