"use strict";
// Heads: the grid of thumbnails, a row a layer, from which one head is chosen.

const headButtons = []; // [layer][head]

function makeGrid() {
  const grid = document.getElementById("grid");
  grid.style.gridTemplateColumns = `auto repeat(${HEADS}, minmax(0, 64px))`;
  const top = row(grid);
  top.append(cell("columnheader", "number", ""));
  for (let head = 0; head < HEADS; head++) top.append(cell("columnheader", "number", String(head)));
  for (let layer = 0; layer < LAYERS; layer++) {
    const line = row(grid);
    const name = cell("rowheader", "layer", String(layer));
    name.append(tag(layer));
    line.append(name);
    headButtons.push(Array.from({ length: HEADS }, (_, head) => line.appendChild(headButton(layer, head))));
  }
  grid.addEventListener("keydown", moveInGrid);
  document.getElementById("local-note").hidden = meta.windows.every((window) => window === null);
}

function row(grid) {
  const element = document.createElement("div");
  element.setAttribute("role", "row");
  return grid.appendChild(element);
}

function cell(role, className, text) {
  const element = document.createElement("div");
  element.setAttribute("role", role);
  element.className = className;
  element.textContent = text;
  return element;
}

/** "global", or "local" with the window: in words, in colour, and with another border. */
function tag(layer) {
  const element = document.createElement("span");
  element.className = `tag ${kindOf(layer).split(" ")[0]}`;
  element.textContent = kindOf(layer);
  return element;
}

function headButton(layer, head) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = kindOf(layer).split(" ")[0];
  button.setAttribute("role", "gridcell");
  button.setAttribute("aria-label", `Layer ${layer}, head ${head}, ${kindOf(layer)}`);
  button.title = `layer ${layer}, head ${head}`;
  button.tabIndex = -1;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = meta.cells;
  canvas.className = meta.cells < 48 ? "coarse" : "";
  button.append(canvas);
  button.addEventListener("click", () => chooseHead(layer, head));
  return button;
}

let thumbnails = null;

async function paintGrid() {
  thumbnails ??= await inflate("thumbnails");
  const size = meta.cells ** 2;
  headButtons.flat().forEach((button, i) => {
    const codes = thumbnails.subarray(i * size, (i + 1) * size);
    paintThumbnail(button.firstChild, codes, Math.floor(i / HEADS));
  });
}

/** Mark the chosen head; it is the one that the Tab key reaches. */
function markHead() {
  headButtons.flat().forEach((button, i) => {
    const chosen = i === state.layer * HEADS + state.head;
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  });
}

function moveInGrid(event) {
  const { layer, head } = state;
  const moves = {
    ArrowLeft: [layer, Math.max(0, head - 1)],
    ArrowRight: [layer, Math.min(HEADS - 1, head + 1)],
    ArrowUp: [Math.max(0, layer - 1), head],
    ArrowDown: [Math.min(LAYERS - 1, layer + 1), head],
    Home: [event.ctrlKey ? 0 : layer, 0],
    End: [event.ctrlKey ? LAYERS - 1 : layer, HEADS - 1],
  };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  chooseHead(...move);
  headButtons[state.layer][state.head].focus();
}
