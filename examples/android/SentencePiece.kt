// sentencepiece for Android: texts to the tokens of a text_encoder.tflite with a vocab.model.
//
// Reads unigram models (LiT's small text towers, SigLIP) and BPE models with byte fallback
// (SigLIP 2), and gives the ids of the sentencepiece library. Nothing here is Android's own.

import java.util.PriorityQueue

/**
 * Texts to `length` ids. `model` is the file vocab.model; the other arguments are `tokenizing` of
 * lit_manifest.json, where `size` leaves out sentinels, which become `unk`.
 */
class SentencePiece(
    model: ByteArray, private val length: Int, private val eos: Int, private val pad: Int,
    private val unk: Int, private val size: Int, private val lowercase: Boolean
) {
    private val pieces = HashMap<String, Int>() // those that texts can be split into
    private val scores = ArrayList<Float>()
    private val types = ArrayList<Int>()
    private val bytes = IntArray(256) { unk } // the pieces <0x00> to <0xFF>
    private var isBpe = false
    private var byteFallback = false
    private var normalizer = Normalizer(ByteArray(0), 0, 0)
    private val own: List<String> // pieces of the model's user, which are always kept whole
    private val longest: Int
    private val worst: Float
    private val best: Float

    init {
        val file = Proto(model, 0, model.size)
        while (file.next()) {
            when (file.field) {
                1 -> addPiece(file.inner())
                2 -> readTrainer(file.inner())
                3 -> normalizer = Normalizer(model, file.start, file.start + file.size)
            }
        }
        own = pieces.filterValues { types[it] == USER_DEFINED }.keys.sortedByDescending { it.length }
        normalizer.own = own.map { it.toByteArray(Charsets.UTF_8) }
        longest = pieces.keys.map { it.length }.max() ?: 0
        val normal = scores.filterIndexed { id, _ -> types[id] == NORMAL }
        worst = normal.min() ?: 0f
        best = normal.max() ?: 0f
    }

    private fun addPiece(proto: Proto) {
        var text = ""
        var score = 0f
        var type = NORMAL
        while (proto.next()) {
            when (proto.field) {
                1 -> text = proto.text()
                2 -> score = proto.float()
                3 -> type = proto.number.toInt()
            }
        }
        val id = scores.size
        scores.add(score)
        types.add(type)
        if (type == NORMAL || type == USER_DEFINED || type == UNUSED) pieces[text] = id
        if (type == BYTE) bytes[text.substring(3, 5).toInt(16)] = id
    }

    private fun readTrainer(proto: Proto) {
        while (proto.next()) {
            if (proto.field == 3) isBpe = proto.number == 2L
            if (proto.field == 35) byteFallback = proto.number != 0L
        }
    }

    /** The pieces of the text, cut; its end; padding. */
    fun encode(text: String): IntArray {
        val lower = if (lowercase) lowerAscii(text) else text
        val normalized = normalizer.normalize(lower)
        val split = if (isBpe) mergePairs(normalized) else bestPath(normalized)
        val ids = ArrayList<Int>()
        var wasUnknown = false
        for (piece in split) {
            val id = pieces[piece]
            if (id != null) {
                ids.add(if (id < size) id else unk)
            } else if (byteFallback) {
                piece.toByteArray(Charsets.UTF_8).forEach { ids.add(bytes[it.toInt() and 255]) }
            } else if (!wasUnknown) {
                ids.add(unk) // a run of unknown characters is one
            }
            wasUnknown = id == null
        }
        val kept = minOf(ids.size, length - 1)
        return IntArray(length) { if (it < kept) ids[it] else if (it == kept) eos else pad }
    }

    /** A unigram model's split: the one of the largest sum of scores. */
    private fun bestPath(text: String): List<String> {
        val total = FloatArray(text.length + 1) { Float.NEGATIVE_INFINITY }
        val from = IntArray(text.length + 1) { -1 }
        total[0] = 0f
        var at = 0
        while (at < text.length) {
            val next = text.offsetByCodePoints(at, 1)
            var single = false
            fun offer(end: Int, score: Float) {
                if (from[end] < 0 || total[at] + score > total[end]) {
                    total[end] = total[at] + score
                    from[end] = at
                }
            }
            for (end in next..minOf(text.length, at + longest)) {
                val piece = text.substring(at, end)
                val id = pieces[piece]
                if (id == null || types[id] == UNUSED) continue
                val utf8 = if (types[id] == USER_DEFINED) piece.toByteArray(Charsets.UTF_8).size else 0
                offer(end, if (utf8 > 0) (utf8 * best - 0.1).toFloat() else scores[id])
                single = single || end == next
            }
            if (!single) offer(next, worst - 10f)
            at = next
        }
        val found = ArrayList<String>()
        var end = text.length
        while (end > 0) {
            found.add(text.substring(from[end], end))
            end = from[end]
        }
        return found.reversed()
    }

    private class Pair(val left: Int, val right: Int, val score: Float, val text: String)

    /** A BPE model's split: pairs of neighbours are joined, the best score first. */
    private fun mergePairs(text: String): List<String> {
        val symbols = ArrayList<String>()
        val whole = ArrayList<Boolean>()
        var at = 0
        while (at < text.length) {
            val kept = own.firstOrNull { text.startsWith(it, at) }
            val end = if (kept != null) at + kept.length else text.offsetByCodePoints(at, 1)
            symbols.add(text.substring(at, end))
            whole.add(kept != null)
            at = end
        }
        val previous = IntArray(symbols.size) { it - 1 }
        val next = IntArray(symbols.size) { if (it + 1 < symbols.size) it + 1 else -1 }
        val queue = PriorityQueue<Pair>(Comparator { a, b ->
            if (a.score != b.score) b.score.compareTo(a.score) else a.left.compareTo(b.left)
        })
        val unused = HashMap<String, kotlin.Pair<String, String>>() // a piece: what it was made of
        fun offer(left: Int, right: Int) {
            if (left < 0 || right < 0 || whole[left] || whole[right]) return
            val joined = symbols[left] + symbols[right]
            val id = pieces[joined] ?: return
            queue.add(Pair(left, right, scores[id], joined))
            if (types[id] == UNUSED) unused[joined] = kotlin.Pair(symbols[left], symbols[right])
        }
        for (i in 1 until symbols.size) offer(i - 1, i)
        while (true) {
            val pair = queue.poll() ?: break
            val (left, right) = kotlin.Pair(symbols[pair.left], symbols[pair.right])
            if (left == "" || right == "" || left + right != pair.text) continue
            symbols[pair.left] = pair.text
            symbols[pair.right] = ""
            next[pair.left] = next[pair.right]
            if (next[pair.right] >= 0) previous[next[pair.right]] = pair.left
            offer(previous[pair.left], pair.left)
            offer(pair.left, next[pair.left])
        }
        val found = ArrayList<String>()
        fun add(piece: String) {
            val parts = unused[piece]
            if (parts == null) found.add(piece) else { add(parts.first); add(parts.second) }
        }
        symbols.filter { it != "" }.forEach { add(it) }
        return found
    }

    private companion object {
        const val NORMAL = 1
        const val USER_DEFINED = 4
        const val UNUSED = 5
        const val BYTE = 6

        fun lowerAscii(text: String) = String(
            CharArray(text.length) { if (text[it] in 'A'..'Z') text[it] + 32 else text[it] }
        )
    }
}

/** The model's normalizer: characters by its table, spaces, and a space before the text. */
private class Normalizer(file: ByteArray, start: Int, end: Int) {
    private var trie = IntArray(0) // a double array, as the Darts library writes it
    private var table = ByteArray(0) // what the trie's values point to, ended by zeros
    private var spaceFirst = true
    private var onlySingleSpaces = true
    private var escapeSpaces = true
    var own: List<ByteArray> = emptyList()

    init {
        val proto = Proto(file, start, end)
        while (proto.next()) {
            when (proto.field) {
                2 -> if (proto.size > 4) readTable(file.copyOfRange(proto.start, proto.start + proto.size))
                3 -> spaceFirst = proto.number != 0L
                4 -> onlySingleSpaces = proto.number != 0L
                5 -> escapeSpaces = proto.number != 0L
            }
        }
    }

    private fun readTable(data: ByteArray) {
        fun word(at: Int) = (0..3).fold(0) { sum, i -> sum or ((data[at + i].toInt() and 255) shl 8 * i) }
        val size = word(0)
        trie = IntArray(size / 4) { word(4 + 4 * it) }
        table = data.copyOfRange(4 + size, data.size)
    }

    fun normalize(text: String): String {
        val input = text.toByteArray(Charsets.UTF_8)
        val out = java.io.ByteArrayOutputStream()
        var at = 0
        var afterSpace = onlySingleSpaces
        var started = false
        while (at < input.size) {
            val (made, used) = prefix(input, at)
            at += used
            var from = 0
            while (afterSpace && from < made.size && made[from] == SPACE) from++
            if (from < made.size) {
                if (!started && spaceFirst) putSpace(out)
                started = true
                for (i in from until made.size) if (made[i] == SPACE) putSpace(out) else out.write(made[i].toInt())
                afterSpace = onlySingleSpaces && made.last() == SPACE
            }
        }
        var found = String(out.toByteArray(), Charsets.UTF_8)
        val space = if (escapeSpaces) "\u2581" else " "
        while (onlySingleSpaces && found.endsWith(space)) found = found.dropLast(1)
        return found
    }

    private fun putSpace(out: java.io.ByteArrayOutputStream) =
        out.write(if (escapeSpaces) "\u2581".toByteArray(Charsets.UTF_8) else byteArrayOf(SPACE))

    /** What the longest known prefix becomes, and its length; without one, a character as it is. */
    private fun prefix(input: ByteArray, at: Int): kotlin.Pair<ByteArray, Int> {
        val kept = own.filter { it.size <= input.size - at && it.indices.all { i -> it[i] == input[at + i] } }
        kept.maxBy { it.size }?.let { return kotlin.Pair(it, it.size) }
        var node = 0
        var value = -1
        var used = 0
        if (trie.isNotEmpty()) {
            node = node xor offset(trie[0])
            for (i in at until input.size) {
                val byte = input[i].toInt() and 255
                node = node xor byte
                val unit = trie[node]
                if ((unit and (Int.MIN_VALUE or 255)) != byte) break
                node = node xor offset(unit)
                if ((unit ushr 8 and 1) == 1) {
                    value = trie[node] and Int.MAX_VALUE
                    used = i + 1 - at
                }
            }
        }
        if (value >= 0) {
            var end = value
            while (table[end] != 0.toByte()) end++
            return kotlin.Pair(table.copyOfRange(value, end), used)
        }
        val first = input[at].toInt() and 255
        val size = if (first < 0x80) 1 else if (first < 0xE0) 2 else if (first < 0xF0) 3 else 4
        return kotlin.Pair(input.copyOfRange(at, at + size), size)
    }

    private fun offset(unit: Int) = (unit ushr 10) shl (unit and 512 ushr 6)

    private companion object {
        const val SPACE = 32.toByte()
    }
}

/** Reads the fields of a protocol buffer. */
private class Proto(private val data: ByteArray, private var at: Int, private val end: Int) {
    var field = 0
    var number = 0L
    var start = 0
    var size = 0

    fun next(): Boolean {
        if (at >= end) return false
        val key = varint().toInt()
        field = key ushr 3
        number = 0
        when (key and 7) {
            0 -> number = varint()
            1 -> size = 8
            2 -> size = varint().toInt()
            5 -> size = 4
            else -> throw IllegalArgumentException("not a sentencepiece model")
        }
        start = at
        if (key and 7 != 0) at += size
        return true
    }

    fun inner() = Proto(data, start, start + size)

    fun text() = String(data, start, size, Charsets.UTF_8)

    fun float() = java.nio.ByteBuffer.wrap(data, start, 4).order(java.nio.ByteOrder.LITTLE_ENDIAN).float

    private fun varint(): Long {
        var value = 0L
        var shift = 0
        while (true) {
            val byte = data[at++].toInt()
            value = value or ((byte and 127).toLong() shl shift)
            if (byte >= 0) return value
            shift += 7
        }
    }
}
