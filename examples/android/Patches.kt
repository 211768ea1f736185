// From a picture to what a NaFlex graph reads: the picture keeps its shape. It is resized (bilinear,
// antialiased, not rounded) so that its patches just fit into `most`, cut into patches, and padded.

/** Patches (most, 3 patch^2), coordinates (most, 2), y and x, and mask (most), 0 for padding. */
class Patches(val patches: FloatArray, val coordinates: IntArray, val mask: IntArray)

/** Of RGB bytes of a picture, row by row. */
fun patches(rgb: ByteArray, height: Int, width: Int, patch: Int, most: Int): Patches {
    val (rows, columns) = targetGrid(height, width, patch, most)
    val tall = triangles(height, rows * patch)
    val wide = triangles(width, columns * patch)
    val size = 3 * patch * patch
    val out = Patches(FloatArray(most * size), IntArray(most * 2), IntArray(most))
    val row = FloatArray(width * 3)
    for (y in 0 until rows * patch) {
        row.fill(0f)
        for ((i, weight) in tall[y].weights.withIndex()) {
            val start = (tall[y].first + i) * width * 3
            for (x in row.indices) row[x] += weight * ((rgb[start + x].toInt() and 255) / 127.5f - 1f)
        }
        for (x in 0 until columns * patch) {
            val place = (y / patch * columns + x / patch) * size + (y % patch * patch + x % patch) * 3
            for ((i, weight) in wide[x].weights.withIndex()) {
                for (c in 0..2) out.patches[place + c] += weight * row[(wide[x].first + i) * 3 + c]
            }
        }
    }
    for (i in 0 until rows * columns) {
        out.coordinates[2 * i] = i / columns
        out.coordinates[2 * i + 1] = i % columns
        out.mask[i] = 1
    }
    return out
}

/** Rows and columns of patches: the largest scale at which they are `most`, all in 32 bits. */
fun targetGrid(height: Int, width: Int, patch: Int, most: Int): Pair<Int, Int> {
    fun count(scale: Float, side: Int) =
        maxOf(Math.ceil((scale * side.toFloat() / patch.toFloat()).toDouble()).toLong(), 1L)
    var low = 1e-6f
    var high = 100f
    while (high - low >= 1e-5f) {
        val middle = (low + high) / 2f
        if (count(middle, height) * count(middle, width) <= most) low = middle else high = middle
    }
    return Pair(count(low, height).toInt(), count(low, width).toInt())
}

/** For a place along a side of the result: the first place that it reads, and the weights. */
private class Triangle(val first: Int, val weights: FloatArray)

private fun triangles(size: Int, wanted: Int): List<Triangle> {
    val step = 1f / (wanted.toFloat() / size)
    val reach = maxOf(step, 1f)
    return List(wanted) {
        val centre = (it + 0.5f) * step
        val first = maxOf(Math.floor((centre - reach - 0.5f).toDouble()).toInt(), 0)
        val last = minOf(Math.ceil((centre + reach - 0.5f).toDouble()).toInt(), size - 1)
        val weights = FloatArray(last - first + 1) { i ->
            maxOf(0f, 1f - Math.abs(centre - (first + i + 0.5f)) / reach)
        }
        val sum = weights.sum()
        Triangle(first, FloatArray(weights.size) { i -> weights[i] / sum })
    }
}
