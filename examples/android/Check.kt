// Runs the other files on a JVM, for their tests: lines of hexadecimal in, lines out.
//
//     kotlin -cp check.jar:/usr/share/java/icu4j.jar CheckKt wordpiece vocab.txt 16
//     kotlin -cp check.jar CheckKt sentencepiece vocab.model LENGTH EOS PAD UNK SIZE LOWERCASE
//     kotlin -cp check.jar CheckKt resize HEIGHT WIDTH SIZE CROP
//     kotlin -cp check.jar CheckKt patches HEIGHT WIDTH PATCH MOST
//     kotlin -cp check.jar CheckKt grid -          (lines: HEIGHT WIDTH PATCH MOST)

import java.io.File

private fun bytes(line: String) =
    ByteArray(line.length / 2) { line.substring(2 * it, 2 * it + 2).toInt(16).toByte() }

fun main(args: Array<String>) {
    val rest = args.drop(2)
    val answer: (ByteArray) -> String = when (args[0]) {
        "wordpiece" -> {
            val lines = File(args[1]).readText(Charsets.UTF_8).trimEnd('\n').split("\n")
            val tokenizer = WordPiece(lines, rest[0].toInt());
            { line -> tokenizer.encode(String(line, Charsets.UTF_8)).joinToString(" ") }
        }
        "sentencepiece" -> {
            val n = rest.take(5).map { it.toInt() }
            val model = File(args[1]).readBytes()
            val tokenizer = SentencePiece(model, n[0], n[1], n[2], n[3], n[4], rest[5].toBoolean());
            { line -> tokenizer.encode(String(line, Charsets.UTF_8)).joinToString(" ") }
        }
        "patches" -> {
            val n = args.drop(1).map { it.toInt() };
            { line ->
                val found = patches(line, n[0], n[1], n[2], n[3])
                listOf(found.patches.toList(), found.coordinates.toList(), found.mask.toList())
                    .joinToString("|") { it.joinToString(" ") }
            }
        }
        "grid" -> { line ->
            val n = String(line, Charsets.UTF_8).split(" ").map { it.toInt() }
            targetGrid(n[0], n[1], n[2], n[3]).toList().joinToString(" ")
        }
        else -> {
            val n = args.drop(1).take(3).map { it.toInt() };
            { line ->
                resize(line, n[0], n[1], n[2], args[4].toBoolean()).joinToString("") { "%02x".format(it) }
            }
        }
    }
    for (line in generateSequence(::readLine)) println(answer(bytes(line)))
}
