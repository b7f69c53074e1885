"use strict";
// Data: tokens and heads from JSON, patterns from compressed bytes, each when it is first asked for.

const meta = JSON.parse(document.getElementById("meta").textContent);
const T = meta.tokens.length;
const LAYERS = meta.windows.length;
const HEADS = meta.heads;

// A weight w is stored as the code round(255 sqrt(w)).
const WEIGHT = Float32Array.from({ length: 256 }, (_, code) => (code / 255) ** 2);

/** A weight as text, with no more digits than eight bits have. */
function percent(weight) {
  const points = 100 * weight;
  if (points < 0.05) return "<0.1 %";
  return points < 9.95 ? `${points.toFixed(1)} %` : `${Math.round(points)} %`;
}

/** A token on one line; its spaces are dots. Odd pieces are the names of what cannot be seen. */
function label(position) {
  const name = meta.tokens[position].map((piece, i) => (i % 2 ? piece : piece.replaceAll(" ", "·"))).join("");
  const character = meta.characters[position];
  return character === undefined ? name : `${name} (of ${character})`;
}

/** A token for a sentence. */
function quoted(position) {
  return `“${label(position).replaceAll("·", " ").trim() || "space"}”`;
}

function kindOf(layer) {
  return meta.windows[layer] === null ? "global" : `local ${meta.windows[layer]}`;
}

/** The first key that a query sees. */
function firstSeen(layer, query) {
  const window = meta.windows[layer];
  return window === null ? 0 : Math.max(0, query - window + 1);
}

/** The bytes of an element that holds base64 of zlib's format. */
async function inflate(id) {
  const text = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const patterns = new Map();

/**
 * The pattern of a head, as rows of entries: those of query i are start[i] ... start[i + 1] - 1 of `keys` and `codes`.
 * Where not all weights were kept, rest[i] is the code of the sum of the others.
 */
function patternOf(layer, head) {
  const id = `h.${layer}.${head}`;
  if (!patterns.has(id)) {
    const keep = meta.keep[layer];
    patterns.set(id, inflate(id).then((bytes) => (keep === null ? readDense(bytes, layer) : readSparse(bytes, layer))));
  }
  return patterns.get(id);
}

const denseRows = new Map();

/** Which entries all dense patterns of a layer with this window have. */
function rowsOf(layer) {
  const window = meta.windows[layer];
  if (!denseRows.has(window)) {
    const start = new Uint32Array(T + 1);
    for (let i = 0; i < T; i++) start[i + 1] = start[i] + i + 1 - firstSeen(layer, i);
    const keys = new Uint16Array(start[T]);
    for (let i = 0, at = 0; i < T; i++) for (let j = firstSeen(layer, i); j <= i; j++) keys[at++] = j;
    denseRows.set(window, { start, keys });
  }
  return denseRows.get(window);
}

function readDense(bytes, layer) {
  return { layer, ...rowsOf(layer), codes: bytes, rest: null };
}

/** Counts, rests, distances between keys (255: two more bytes hold it), codes: see encoding.py. */
function readSparse(bytes, layer) {
  const start = new Uint32Array(T + 1);
  for (let i = 0; i < T; i++) start[i + 1] = start[i] + bytes[i];
  const keys = new Uint16Array(start[T]);
  let at = 2 * T;
  for (let i = 0; i < T; i++) {
    let key = firstSeen(layer, i);
    for (let n = start[i]; n < start[i + 1]; n++) {
      let distance = bytes[at++];
      if (distance === 255) {
        distance = bytes[at] + 256 * bytes[at + 1];
        at += 2;
      }
      keys[n] = key += distance;
    }
  }
  return { layer, start, keys, codes: bytes.subarray(at), rest: bytes.subarray(T, 2 * T) };
}

/** The same entries by key: those of key j are start[j] ... start[j + 1] - 1 of `queries` and `codes`. */
function columnsOf(pattern) {
  if (pattern.columns) return pattern.columns;
  const { start, keys, codes } = pattern;
  const begin = new Uint32Array(T + 1);
  for (const key of keys) begin[key + 1]++;
  for (let j = 0; j < T; j++) begin[j + 1] += begin[j];
  const next = begin.slice();
  const queries = new Uint16Array(keys.length);
  const sorted = new Uint8Array(keys.length);
  for (let i = 0; i < T; i++) {
    for (let n = start[i]; n < start[i + 1]; n++) {
      const place = next[keys[n]]++;
      queries[place] = i;
      sorted[place] = codes[n];
    }
  }
  pattern.columns = { start: begin, queries, codes: sorted };
  return pattern.columns;
}

/** What a query attends to, largest first: [{position, weight}]. */
function readsFrom(pattern, query) {
  return entries(pattern.start, pattern.keys, pattern.codes, query);
}

/** What attends to a key, largest first. */
function readBy(pattern, key) {
  const columns = columnsOf(pattern);
  return entries(columns.start, columns.queries, columns.codes, key);
}

function entries(start, positions, codes, row) {
  const found = [];
  for (let n = start[row]; n < start[row + 1]; n++) {
    if (codes[n] > 0) found.push({ position: positions[n], weight: WEIGHT[codes[n]], code: codes[n] });
  }
  return found.sort((a, b) => b.code - a.code || a.position - b.position);
}

/** The weights of a row that were not kept: how many, their sum, and what each is at most. */
function notKept(pattern, query) {
  if (pattern.rest === null) return { count: 0, sum: 0, most: 0 };
  const kept = pattern.start[query + 1] - pattern.start[query];
  const count = query + 1 - firstSeen(pattern.layer, query) - kept;
  let least = 1; // codes below 1 were dropped; where a row is full, so was all below its smallest
  if (kept === meta.keep[pattern.layer]) {
    least = 255;
    for (let n = pattern.start[query]; n < pattern.start[query + 1]; n++) least = Math.min(least, pattern.codes[n]);
  }
  const sum = WEIGHT[pattern.rest[query]];
  return { count, sum, most: Math.min(sum, WEIGHT[least]) };
}

/** The weight of one cell: its code, or null where it was not kept. */
function codeAt(pattern, query, key) {
  for (let n = pattern.start[query]; n < pattern.start[query + 1]; n++) {
    if (pattern.keys[n] === key) return pattern.codes[n];
  }
  return pattern.rest === null ? 0 : null;
}
