// SHA-256 (FIPS 180-4), since browsers have no digests over plain HTTP.

// Returns the digest of a Uint8Array in hexadecimal.
export async function sha256(data) {
  const digest = crypto.subtle ? await crypto.subtle.digest("SHA-256", data) : ownSha256(data);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The first 32 bits of the fractional parts of the primes' square and cube roots.
const primes = Array.from({ length: 312 }, (_, i) => i).filter((n) => n > 1 && isPrime(n));
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const START = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
const ROUNDS = Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime)));

function isPrime(n) {
  for (let i = 2; i * i <= n; i++) if (n % i === 0) return false;
  return true;
}

export function ownSha256(data) {
  const state = Int32Array.from(START), words = new Int32Array(64), whole = data.length & ~63;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (let at = 0; at < whole; at += 64) mixIn(state, words, view, at);
  // The rest, a one, zeros and the length in bits.
  const rest = data.subarray(whole), end = new Uint8Array(rest.length < 56 ? 64 : 128);
  end.set(rest);
  end[rest.length] = 0x80;
  const last = new DataView(end.buffer);
  last.setBigUint64(end.length - 8, BigInt(data.length) * 8n);
  for (let at = 0; at < end.length; at += 64) mixIn(state, words, last, at);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => digest.setInt32(4 * i, word));
  return digest.buffer;
}

const turn = (x, bits) => (x >>> bits) | (x << (32 - bits));

// Mixes 64 bytes into the state.
function mixIn(state, words, view, at) {
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const x = words[i - 15], y = words[i - 2];
    const low = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3), high = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
    words[i] = words[i - 16] + low + words[i - 7] + high;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const choice = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
    const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choice + ROUNDS[i] + words[i]) | 0;
    const second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority;
    [h, g, f, e, d, c, b] = [g, f, e, (d + first) | 0, c, b, a];
    a = (first + second) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((x, i) => (state[i] += x));
}
