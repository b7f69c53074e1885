"use strict";
// View: what is chosen, what happens when that changes, and the keys that work everywhere.

const state = {
  layer: meta.layer,
  head: meta.head,
  pinned: T - 1, // the token that stays, or null
  hovered: null, // the token below the mouse or with the focus, shown in its place
  key: null, // the column of the crosshair
  pattern: null, // of the chosen head, once it is unpacked
};

function currentToken() {
  return state.hovered ?? state.pinned ?? T - 1;
}

async function chooseHead(layer, head) {
  Object.assign(state, { layer, head });
  markHead();
  const pattern = await patternOf(layer, head);
  if (state.layer !== layer || state.head !== head) return; // another one was chosen meanwhile
  state.pattern = pattern;
  const title = document.getElementById("head-title");
  title.textContent = `Layer ${layer}, head ${head} `;
  title.append(tag(layer));
  const window = meta.windows[layer];
  document.getElementById("reach-note").hidden = window === null || window >= T;
  const area = T <= 640 ? "" : " Where a pixel holds several cells, it shows the largest.";
  document.getElementById("pattern-note").textContent =
    `A row is a token that looks, a column one that is looked at.${area}${hiddenNote(window)}`;
  document.getElementById("matrix").setAttribute("aria-label", `Pattern of layer ${layer}, head ${head}, ${T} tokens`);
  showToken();
  paintMatrix();
  if (document.getElementById("follow-heads").value === "chosen") showFollowed();
  say(`Layer ${layer}, head ${head}, ${kindOf(layer)}. ${spokenToken()}`);
}

function hiddenNote(window) {
  return window !== null && window < T ? " Hatched cells are hidden by the window." : "";
}

/** Show a token in place of the pinned one, for as long as the mouse or the focus is on it. */
function point(position, aloud = false) {
  if (position === state.hovered || !state.pattern) return;
  state.hovered = position;
  state.key = null;
  refresh();
  if (aloud) say(spokenToken());
}

function pointAtCell(found) {
  if (!state.pattern) return;
  if (found && found.query === state.hovered && found.key === state.key) return;
  state.hovered = found ? found.query : null;
  state.key = found ? found.key : null;
  refresh();
  if (found && document.activeElement?.id === "matrix") say(describeCell(found.query, found.key));
}

/** Show where a key is, without leaving the pinned token. */
function pointAtKey(position) {
  state.key = position;
  if (state.pattern) refresh();
}

function refresh() {
  showToken();
  paintMarks();
  const cell = document.getElementById("cell");
  cell.textContent = state.key === null ? "" : describeCell(currentToken(), state.key);
}

/** Pin a token, or unpin it where it is pinned already and not to be `kept`. */
function pin(position, kept = false) {
  if (position === null || !state.pattern) return;
  tokenElements[state.pinned]?.setAttribute("aria-selected", "false");
  state.pinned = position === state.pinned && !kept ? null : position;
  state.key = null;
  tokenElements[state.pinned]?.setAttribute("aria-selected", "true");
  refresh();
  if (!cellIsShown()) paintMatrix();
  showFollowed();
  scrollToToken(currentToken());
  say(state.pinned === null ? "Unpinned." : `Pinned. ${spokenToken()}`);
}

/** Bring a token into the text's own frame, without moving the page. */
function scrollToToken(position) {
  const text = document.getElementById("text");
  const token = tokenElements[position];
  const above = token.offsetTop - text.scrollTop;
  if (above < 0 || above > text.clientHeight - 40) text.scrollTop = token.offsetTop - text.clientHeight / 2;
}

function spokenToken() {
  const current = currentToken();
  const list = (found) => found.slice(0, 3).map(({ position, weight }) => `${quoted(position)} ${percent(weight)}`).join(", ");
  const read = readBy(state.pattern, current).filter((entry) => entry.position !== current);
  const after = read.length ? ` Attended to by ${list(read)}.` : "";
  return `Token ${current}, ${quoted(current)}, attends to ${list(readsFrom(state.pattern, current))}.${after}`;
}

let saying = 0;

/** Let a screen reader read a sentence, once the keys have come to rest. */
function say(sentence) {
  clearTimeout(saying);
  saying = setTimeout(() => (document.getElementById("live").textContent = sentence), 150);
}

function keyEverywhere(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("dialog, select")) return;
  const actions = {
    "?": () => document.getElementById("help").showModal(),
    Escape: () => state.pinned !== null && pin(state.pinned),
    "[": () => chooseHead(Math.max(0, state.layer - 1), state.head),
    "]": () => chooseHead(Math.min(LAYERS - 1, state.layer + 1), state.head),
    "+": () => zoom(2),
    "-": () => zoom(0.5),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

async function start() {
  const plural = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
  document.getElementById("summary").textContent =
    `${plural(T, "token")}, ${plural(LAYERS, "layer")} of ${plural(HEADS, "head")}`;
  readColours();
  makeGrid();
  makeText();
  makeMatrix();
  makeFollow();
  paintScale();
  tokenElements[state.pinned].tabIndex = 0;
  tokenElements[state.pinned].setAttribute("aria-selected", "true");
  document.addEventListener("keydown", keyEverywhere);
  document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    paintScale();
    paintGrid();
    paintMatrix();
  });
  await Promise.all([paintGrid(), chooseHead(state.layer, state.head)]);
  scrollToToken(currentToken());
  await showFollowed();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  const notice = document.getElementById("failure");
  notice.textContent = `This view could not be drawn: ${error.message}. It needs a browser of 2023 or later.`;
  notice.hidden = false;
  throw error;
});
