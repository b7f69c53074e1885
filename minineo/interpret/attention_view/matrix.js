"use strict";
// Pattern: the chosen head's matrix, queries down and keys across, with a crosshair that mouse or keys move.

const SMALLEST_LABELLED = 11; // CSS pixels of a cell from which on tokens are written beside the matrix
const MARGIN = 84; // CSS pixels that those need

const matrix = { zoom: 1, top: 0, left: 0, span: T, size: 0, margin: 0, ratio: 1 };

function makeMatrix() {
  const element = document.getElementById("matrix");
  element.addEventListener("pointermove", (event) => pointAtCell(cellUnder(event)));
  element.addEventListener("pointerleave", () => pointAtCell(null));
  element.addEventListener("click", (event) => {
    const found = cellUnder(event);
    if (found) pin(found.query);
  });
  element.addEventListener("keydown", moveInMatrix);
  element.addEventListener("focus", () => pointAtCell({ query: currentToken(), key: state.key ?? currentToken() }));
  element.addEventListener("blur", () => pointAtCell(null));
  document.getElementById("zoom-in").addEventListener("click", () => zoom(2));
  document.getElementById("zoom-out").addEventListener("click", () => zoom(0.5));
  new ResizeObserver(paintMatrix).observe(element);
}

/** The part of the matrix that is shown: `span` tokens each way, around the current ones. */
function frameMatrix() {
  const element = document.getElementById("matrix");
  matrix.ratio = window.devicePixelRatio || 1;
  matrix.span = Math.max(Math.min(T, 12), Math.ceil(T / matrix.zoom));
  matrix.margin = (element.clientWidth - MARGIN) / matrix.span >= SMALLEST_LABELLED ? MARGIN : 0;
  matrix.size = element.clientWidth - matrix.margin;
  const within = (middle) => Math.max(0, Math.min(T - matrix.span, Math.round(middle - matrix.span / 2)));
  const query = currentToken();
  matrix.top = within(query);
  matrix.left = within(state.key ?? query - matrix.span / 4);
}

function zoom(factor) {
  matrix.zoom = Math.max(1, Math.min(T / Math.min(T, 12), matrix.zoom * factor));
  paintMatrix();
}

/** Whether the current cell is in the part that is shown. */
function cellIsShown() {
  const inside = (position, from) => position >= from && position < from + matrix.span;
  return inside(currentToken(), matrix.top) && (state.key === null || inside(state.key, matrix.left));
}

function paintMatrix() {
  if (!state.pattern) return;
  frameMatrix();
  const { size, margin, ratio, span } = matrix;
  if (size <= 0) return;
  for (const id of ["matrix-cells", "matrix-marks"]) {
    const canvas = document.getElementById(id);
    canvas.width = canvas.height = Math.round((size + margin) * ratio);
  }
  const context = document.getElementById("matrix-cells").getContext("2d");
  const from = margin * ratio;
  const extent = size * ratio;
  context.fillStyle = hatch(context, ratio);
  context.fillRect(from, from, extent, extent);
  context.imageSmoothingEnabled = false;
  context.drawImage(cellsPicture(Math.min(span, Math.round(extent))), from, from, extent, extent);
  context.strokeStyle = colours.line;
  context.strokeRect(from, from, extent, extent);
  if (margin) labelAxes(context);
  document.getElementById("zoom-in").disabled = span <= Math.min(T, 12);
  document.getElementById("zoom-out").disabled = span === T;
  paintMarks();
}

/** One pixel a cell or, where there are more tokens than `pixels`, the largest weight of several cells. */
function cellsPicture(pixels) {
  const { top, left, span } = matrix;
  const { start, keys, codes } = state.pattern;
  const largest = new Int16Array(pixels * pixels).fill(-1); // -1: hidden by the window
  for (let i = top; i < top + span; i++) {
    const line = Math.floor(((i - top) * pixels) / span) * pixels;
    const column = (key) => line + Math.floor(((key - left) * pixels) / span);
    const first = Math.max(left, firstSeen(state.layer, i));
    const last = Math.min(left + span - 1, i);
    const lost = notKept(state.pattern, i);
    const spread = lost.count ? Math.round(255 * Math.sqrt(lost.sum / lost.count)) : 0; // as if shared evenly
    if (first <= last) for (let at = column(first); at <= column(last); at++) largest[at] = Math.max(largest[at], spread);
    for (let n = start[i]; n < start[i + 1]; n++) {
      if (keys[n] < first || keys[n] > last) continue;
      const at = column(keys[n]);
      if (codes[n] > largest[at]) largest[at] = codes[n];
    }
  }
  const picture = new OffscreenCanvas(pixels, pixels);
  const context = picture.getContext("2d");
  const image = context.createImageData(pixels, pixels);
  const colour = new Uint32Array(image.data.buffer);
  const nothing = packed(rgb(colours.ahead));
  for (let y = 0, at = 0; y < pixels; y++) {
    const lastQuery = top + Math.floor(((y + 1) * span - 1) / pixels);
    for (let x = 0; x < pixels; x++, at++) {
      const ahead = left + Math.floor((x * span) / pixels) > lastQuery;
      colour[at] = ahead ? nothing : largest[at] < 0 ? 0 : ramp[largest[at]];
    }
  }
  context.putImageData(image, 0, 0);
  return picture;
}

function labelAxes(context) {
  const { top, left, span, size, margin, ratio } = matrix;
  const step = size / span;
  context.save();
  context.scale(ratio, ratio);
  context.fillStyle = colours.ink;
  context.font = `${Math.min(13, step)}px Georgia, serif`;
  context.textBaseline = "middle";
  const short = (position) => {
    const name = label(position);
    return name.length > 12 ? `${name.slice(0, 11)}…` : name;
  };
  context.textAlign = "right";
  for (let i = 0; i < span; i++) context.fillText(short(top + i), margin - 4, margin + (i + 0.5) * step, margin - 6);
  context.textAlign = "left";
  for (let j = 0; j < span; j++) {
    context.save();
    context.translate(margin + (j + 0.5) * step, margin - 4);
    context.rotate(-Math.PI / 2);
    context.fillText(short(left + j), 0, 0, margin - 6);
    context.restore();
  }
  context.restore();
}

/** Crosshair and window, on a canvas of their own: they change with every move, the cells do not. */
function paintMarks() {
  if (!matrix.size) return;
  const { top, left, span, size, margin, ratio } = matrix;
  const canvas = document.getElementById("matrix-marks");
  const context = canvas.getContext("2d");
  const step = size / span;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio, 0, 0, ratio, margin * ratio, margin * ratio);
  context.beginPath();
  context.rect(-margin, -margin, size + margin, size + margin);
  context.clip();
  if (meta.windows[state.layer] !== null) windowEdge(context, step);
  const bar = Math.max(step, 2);
  const query = currentToken();
  const y = (query - top) * step;
  const x = ((state.key ?? query) - left) * step;
  const crossed = state.key !== null;
  // along the row, what the query attends to; down the column, what attends to the key
  context.lineWidth = 1.5;
  context.strokeStyle = colours.key;
  context.strokeRect(0, y, crossed ? size : Math.max(0, (query - left + 1) * step), bar);
  context.strokeStyle = colours.query;
  context.strokeRect(x, crossed ? 0 : y, bar, crossed ? size : size - y);
  if (!crossed) return;
  context.strokeStyle = colours.ink;
  context.lineWidth = 2.5;
  context.strokeRect(x - 1, y - 1, bar + 2, bar + 2);
}

function windowEdge(context, step) {
  const { top, left, span, size } = matrix;
  const edge = meta.windows[state.layer] - 1;
  context.strokeStyle = colours.local;
  context.lineWidth = 2;
  context.save();
  context.beginPath();
  context.rect(0, 0, size, size);
  context.clip();
  context.beginPath();
  for (let i = Math.max(top, edge); i < top + span; i++) {
    context.lineTo((i - edge - left) * step, (i - top) * step);
    context.lineTo((i - edge - left) * step, (i + 1 - top) * step);
  }
  context.stroke();
  context.restore();
}

function cellUnder(event) {
  const box = document.getElementById("matrix").getBoundingClientRect();
  const place = (pixels) => Math.floor(((pixels - matrix.margin) / matrix.size) * matrix.span);
  const [down, across] = [place(event.clientY - box.top), place(event.clientX - box.left)];
  if (down < 0 || across < 0 || down >= matrix.span || across >= matrix.span) return null;
  return { query: matrix.top + down, key: matrix.left + across };
}

/** What the cell below the crosshair says, in words. */
function describeCell(query, key) {
  const pair = `${quoted(query)} (${query}) → ${quoted(key)} (${key})`;
  if (key > query) return `${pair}: lies ahead, no token attends to a later one`;
  if (key < firstSeen(state.layer, query)) return `${pair}: hidden, ${query - key} back, and the window holds ${meta.windows[state.layer]}`;
  const code = codeAt(state.pattern, query, key);
  return `${pair}: ${code === null ? `not kept, at most ${percent(notKept(state.pattern, query).most)}` : percent(WEIGHT[code])}`;
}

function moveInMatrix(event) {
  const query = currentToken();
  const key = state.key ?? query;
  const jump = event.shiftKey ? Math.max(1, Math.floor(matrix.span / 10)) : 1;
  const moves = {
    ArrowLeft: [query, key - jump],
    ArrowRight: [query, key + jump],
    ArrowUp: [query - jump, key],
    ArrowDown: [query + jump, key],
    Home: [query, firstSeen(state.layer, query)],
    End: [query, query],
  };
  const move = moves[event.key];
  if (move) {
    const inText = (position) => Math.max(0, Math.min(T - 1, position));
    pointAtCell({ query: inText(move[0]), key: inText(move[1]) });
    if (!cellIsShown()) paintMatrix();
  } else if (event.key === "Enter" || event.key === " ") {
    pin(query);
  } else {
    return;
  }
  event.preventDefault();
}
