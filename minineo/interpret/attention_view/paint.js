"use strict";
// Paint: a colour for each code, taken from the style sheet so that light and dark are said once.

let ramp = new Uint32Array(256); // colours of codes as the bytes of a picture: red, green, blue, opaque
let hiddenColour = 0; // what the window hides, in thumbnails
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const stops = [0, 1, 2, 3].map((i) => rgb(style.getPropertyValue(`--ramp-${i}`)));
  for (let code = 0; code < 256; code++) {
    const place = (code / 255) * 3;
    const from = Math.min(2, Math.floor(place));
    ramp[code] = packed(stops[from].map((value, i) => value + (stops[from + 1][i] - value) * (place - from)));
  }
  hiddenColour = packed(rgb(style.getPropertyValue("--hidden-2")));
  const named = (name) => style.getPropertyValue(name).trim();
  colours = {
    ahead: named("--ahead"),
    ink: named("--ink"),
    line: named("--line"),
    hidden1: named("--hidden-1"),
    hidden2: named("--hidden-2"),
    key: `rgb(${named("--key")})`,
    query: `rgb(${named("--query")})`,
    local: `rgb(${named("--local")})`,
  };
}

function rgb(hex) {
  const number = parseInt(hex.trim().slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

function packed([red, green, blue]) {
  return ((255 << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
}

/** Paint the P x P codes of a thumbnail; what lies ahead stays clear, what the window hides is grey. */
function paintThumbnail(canvas, codes, layer) {
  const P = meta.cells;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(P, P);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let y = 0; y < P; y++) {
    const firstQuery = Math.floor((y * T) / P); // what the cell's first query sees is the farthest back
    const seen = Math.floor((firstSeen(layer, firstQuery) * P) / T);
    for (let x = 0; x <= y; x++) pixels[y * P + x] = x < seen ? hiddenColour : ramp[codes[y * P + x]];
  }
  context.putImageData(picture, 0, 0);
}

/** A pattern that repeats, for what is hidden by the window. */
function hatch(context, ratio) {
  const tile = document.createElement("canvas");
  const size = Math.round(6 * ratio);
  tile.width = tile.height = size;
  const on = tile.getContext("2d");
  on.fillStyle = colours.hidden1;
  on.fillRect(0, 0, size, size);
  on.strokeStyle = colours.hidden2;
  on.lineWidth = 1.5 * ratio;
  on.beginPath();
  for (const shift of [-size, 0, size]) {
    on.moveTo(shift, size);
    on.lineTo(shift + size, 0);
  }
  on.stroke();
  return context.createPattern(tile, "repeat");
}

/** The scale below the pattern: weights go with the square root, as codes do. */
function paintScale() {
  const canvas = document.querySelector("#scale canvas");
  const context = canvas.getContext("2d");
  const picture = context.createImageData(256, 1);
  new Uint32Array(picture.data.buffer).set(ramp);
  context.putImageData(picture, 0, 0);
  const marks = document.querySelector("#scale ol");
  marks.replaceChildren();
  for (const points of [0, 1, 5, 20, 50, 100]) {
    const mark = document.createElement("li");
    mark.textContent = points === 100 ? "100 %" : String(points);
    mark.style.left = `${100 * Math.sqrt(points / 100)}%`;
    marks.append(mark);
  }
}
