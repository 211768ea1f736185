// Texts to the ids of lit_tf.tokenizers.

/** Returns a function from a text to `length` ids, as the manifest's `tokenizing` says. */
export async function makeTokenizer({ kind, length, ...more }, vocabulary, runtime) {
  return kind === "bert" ? wordPiece(vocabulary, length) : sentencePiece(vocabulary, length, more, runtime);
}

// --- WordPiece: the algorithm that lit_tf/wordpiece.py describes ----------------------------------

const IGNORABLE = /\p{Default_Ignorable_Code_Point}/u;
const SPACE = /[\p{Cc}\p{Cf} ]/u;
// Punctuation, ASCII symbols and the ideographs that BERT splits into single characters.
const ALONE = new RegExp(
  "[\\p{P}$+<=>^`|~\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}" +
    "\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]", "u");

function wordPiece(bytes, length) {
  const lines = new TextDecoder().decode(bytes).split(/\r?\n/);
  const ids = new Map(lines.map((piece, id) => [piece, id]));
  const longest = Math.max(...lines.map((piece) => piece.length));
  const unknown = [ids.get("[UNK]")];

  function pieces(word) {
    if (new TextEncoder().encode(word).length > 100) return unknown;
    const chars = [...word], out = [];
    for (let start = 0; start < chars.length; ) {
      let end = Math.min(chars.length, start + longest), id;
      for (; end > start; end--) {
        id = ids.get((start ? "##" : "") + chars.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return unknown;
      out.push(id);
      start = end;
    }
    return out;
  }

  return (text) => {
    const out = [ids.get("[CLS]")];
    for (const word of splitWords(text)) {
      if (out.length >= length) break;
      out.push(...pieces(word));
    }
    return [...out, ...Array(length).fill(0)].slice(0, length);
  };
}

/** Yields the words of a text, folded, as BERT's basic tokenizer cuts them. */
export function* splitWords(text) {
  let word = "";
  for (const char of [...text].map(fold).join("").normalize("NFD")) {
    if (/\p{Mn}/u.test(char)) continue;
    const alone = ALONE.test(char);
    if (!alone && !SPACE.test(char)) {
      word += char;
      continue;
    }
    if (word) yield word;
    if (alone) yield char;
    word = "";
  }
  if (word) yield word;
}

function fold(char) {
  if (IGNORABLE.test(char)) return "";
  for (let i = 0; i < 2; i++) char = [...char.normalize("NFKC")].map(foldCase).join("");
  return char.normalize("NFKC").normalize("NFD");
}

// Upper and then lower case is full case folding, but for dotless i and Cherokee.
function foldCase(char) {
  if (char === "\u0131") return char;
  if (/\p{Script=Cherokee}/u.test(char)) return char.toUpperCase();
  return char.toUpperCase().toLowerCase();
}

// --- sentencepiece: its own library, compiled to WebAssembly --------------------------------------

async function sentencePiece(bytes, length, { eos, pad, lowercase }, runtime) {
  const { default: create } = await import(runtime + "sentencepiece.js");
  const library = await create({ printErr: () => {} });
  const processor = new library.SentencePieceProcessor();
  const view = (value, use) => {
    const string = new library.StringView(value), inner = string.getView();
    try {
      return use(inner);
    } finally {
      inner.delete();
      string.delete();
    }
  };
  library.FS.writeFile("model", bytes);
  view("model", (name) => processor.Load(name).delete());
  library.FS.unlink("model");

  return (text) => {
    if (lowercase) text = text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
    const found = view(new TextEncoder().encode(text), (utf8) => processor.EncodeAsIds(utf8));
    const out = [];
    for (let i = 0; i < Math.min(found.size(), length - 1); i++) out.push(found.get(i));
    found.delete();
    out.push(eos);
    return [...out, ...Array(length).fill(pad)].slice(0, length);
  };
}
