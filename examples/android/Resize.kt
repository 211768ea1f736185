// The resizing of the model's reference: bilinear with half-pixel centres, not antialiased,
// truncated to bytes. Neither Bitmap.createScaledBitmap nor a GPU's sampler does this.

/**
 * RGB bytes of a picture, row by row, to those of a square, as image_encoder.tflite takes them.
 * With `crop`, the smaller side is fitted and the centre cut out.
 */
fun resize(rgb: ByteArray, height: Int, width: Int, size: Int, crop: Boolean): ByteArray {
    val scale = size.toFloat() / minOf(height, width)
    val tall = if (crop) Math.rint((height * scale).toDouble()).toInt() else size
    val wide = if (crop) Math.rint((width * scale).toDouble()).toInt() else size
    val rows = Axis(height, tall)
    val columns = Axis(width, wide)
    val out = ByteArray(size * size * 3)
    for (y in 0 until size) {
        val row = y + (tall - size) / 2
        for (x in 0 until size) {
            val column = x + (wide - size) / 2
            for (c in 0..2) {
                fun pixel(i: Int, j: Int) = (rgb[(i * width + j) * 3 + c].toInt() and 255).toFloat()
                val (left, right) = Pair(columns.low[column], columns.high[column])
                val (above, below) = Pair(rows.low[row], rows.high[row])
                val top = mix(pixel(above, left), pixel(above, right), columns.share[column])
                val bottom = mix(pixel(below, left), pixel(below, right), columns.share[column])
                out[(y * size + x) * 3 + c] = mix(top, bottom, rows.share[row]).toInt().toByte()
            }
        }
    }
    return out
}

private fun mix(a: Float, b: Float, share: Float) = a + (b - a) * share

/** For each place along a side of the result: its two neighbours, and the second one's share. */
private class Axis(size: Int, wanted: Int) {
    private val scale = size.toFloat() / wanted
    private val place = FloatArray(wanted) { (it + 0.5f) * scale - 0.5f }
    private val floor = FloatArray(wanted) { Math.floor(place[it].toDouble()).toFloat() }
    val low = IntArray(wanted) { maxOf(floor[it].toInt(), 0) }
    val high = IntArray(wanted) { minOf(floor[it].toInt() + 1, size - 1) }
    val share = FloatArray(wanted) { place[it] - floor[it] }
}
