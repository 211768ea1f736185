// BERT's WordPiece for Android: texts to the tokens of text_encoder.tflite.
//
// The algorithm is described in lit_tf/texts/wordpiece.py. No class here is Android's own.

import com.ibm.icu.text.Normalizer2 // on a phone: android.icu.text.Normalizer2

/** Texts to `length` ids. `pieces` are the lines of vocab.txt. */
class WordPiece(pieces: List<String>, private val length: Int) {
    private val ids = HashMap<String, Int>()
    private val unknown: Int
    private val start: Int

    init {
        pieces.forEachIndexed { id, piece -> ids[piece] = id }
        unknown = ids.getValue("[UNK]")
        start = ids.getValue("[CLS]")
    }

    /** [CLS], the pieces of the text, zeros. */
    fun encode(text: String): IntArray {
        val found = ArrayList<Int>()
        found.add(start)
        for (word in words(text)) {
            if (found.size >= length) break
            found.addAll(piecesOf(word))
        }
        return IntArray(length) { if (it < found.size) found[it] else 0 }
    }

    /** The longest pieces of a word, from its start; one [UNK] if it cannot be split to its end. */
    private fun piecesOf(word: String): List<Int> {
        val unknown = listOf(unknown)
        if (word.toByteArray(Charsets.UTF_8).size > 100) return unknown
        val found = ArrayList<Int>()
        var from = 0
        while (from < word.length) {
            var to = word.length
            var id: Int? = null
            while (to > from) {
                id = ids[(if (from == 0) "" else "##") + word.substring(from, to)]
                if (id != null) break
                to = word.offsetByCodePoints(to, -1)
            }
            found.add(id ?: return unknown)
            from = to
        }
        return found
    }
}

private val FOLD = Normalizer2.getNFKCCasefoldInstance()
private val DECOMPOSE = Normalizer2.getNFDInstance()

/** The words of a text, folded, as BERT's basic tokenizer cuts them. */
private fun words(text: String): List<String> {
    val found = ArrayList<String>()
    val word = StringBuilder()
    fun end() {
        if (word.isNotEmpty()) found.add(word.toString())
        word.setLength(0)
    }
    for (point in DECOMPOSE.normalize(FOLD.normalize(text)).codePoints().toArray()) {
        when {
            Character.getType(point) == Character.NON_SPACING_MARK.toInt() -> {} // an accent
            isSpace(point) -> end()
            standsAlone(point) -> {
                end()
                found.add(String(Character.toChars(point)))
            }
            else -> word.appendCodePoint(point)
        }
    }
    end()
    return found
}

private fun isSpace(point: Int) = point == 0x20 || when (Character.getType(point)) {
    Character.CONTROL.toInt(), Character.FORMAT.toInt() -> true
    else -> false
}

/** Whether a code point is punctuation, an ASCII symbol or an ideograph: a word of its own. */
private fun standsAlone(point: Int): Boolean = when (Character.getType(point)) {
    Character.CONNECTOR_PUNCTUATION.toInt(), Character.DASH_PUNCTUATION.toInt(),
    Character.START_PUNCTUATION.toInt(), Character.END_PUNCTUATION.toInt(),
    Character.INITIAL_QUOTE_PUNCTUATION.toInt(), Character.FINAL_QUOTE_PUNCTUATION.toInt(),
    Character.OTHER_PUNCTUATION.toInt() -> true
    Character.MATH_SYMBOL.toInt(), Character.CURRENCY_SYMBOL.toInt(),
    Character.MODIFIER_SYMBOL.toInt(), Character.OTHER_SYMBOL.toInt() -> point < 128
    else -> IDEOGRAPHS.any { point in it }
}

private val IDEOGRAPHS = listOf(
    0x4E00..0x9FFF, 0x3400..0x4DBF, 0x20000..0x2A6DF, 0x2A700..0x2CEAF, 0xF900..0xFAFF,
    0x2F800..0x2FA1F
)
