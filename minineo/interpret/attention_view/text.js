"use strict";
// Text: the tokens, coloured by the weights of one of them, and the two lists that say them in numbers.

const ROWS = 9; // of each list
const LABELLED = 6; // tokens that have their weight beside them, each way
const FAINTEST = 8; // codes below are not coloured: less than 0.1 %

const tokenElements = [];
const weightElements = []; // the labels: beside the text's own block, which so is never laid out anew
let coloured = []; // tokens that were given a colour last
let reached = [0, T]; // tokens that the current one can be connected with: all others are out of reach

function makeText() {
  const text = document.getElementById("text");
  const flow = text.appendChild(document.createElement("div"));
  flow.setAttribute("role", "presentation");
  for (let i = 0; i < T; i++) {
    const token = tokenElement(i);
    tokenElements.push(token);
    flow.append(token);
    if (meta.tokens[i].includes("⏎", 1)) flow.append("\n");
  }
  text.addEventListener("pointerover", (event) => point(positionOf(event.target)));
  text.addEventListener("pointerleave", () => point(null));
  text.addEventListener("focusin", (event) => point(positionOf(event.target), true));
  text.addEventListener("focusout", () => point(null));
  text.addEventListener("click", (event) => pin(positionOf(event.target)));
  text.addEventListener("keydown", moveInText);
  const weights = document.createElement("div");
  weights.className = "weights";
  weights.setAttribute("aria-hidden", "true"); // the lists say it
  for (let i = 0; i < 2 * LABELLED; i++) weightElements.push(weights.appendChild(document.createElement("span")));
  text.append(weights);
  for (const id of ["keys", "queries"]) makeList(document.getElementById(id));
}

function tokenElement(position) {
  const token = document.createElement("span");
  token.className = "token";
  token.setAttribute("role", "option");
  token.setAttribute("aria-selected", "false");
  token.setAttribute("aria-label", `${quoted(position)}, token ${position}`);
  token.dataset.position = position;
  token.tabIndex = -1;
  meta.tokens[position].forEach((piece, i) => token.append(i % 2 ? markElement(piece) : piece));
  if (meta.characters[position] !== undefined) token.title = `a part of ${meta.characters[position]}`;
  return token;
}

/** The name of what cannot be seen. */
function markElement(name) {
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.textContent = name;
  return mark;
}

function positionOf(element) {
  const token = element.closest?.("[data-position]");
  return token ? Number(token.dataset.position) : null;
}

/** Show the current token's weights in the text and in the lists. */
function showToken() {
  const current = currentToken();
  const reads = readsFrom(state.pattern, current);
  const read = readBy(state.pattern, current).filter((entry) => entry.position !== current);
  labelTokens(reads, read); // first, while the layout is known
  for (const token of coloured) token.classList.remove("key", "query", "current", "pinned", "pointed");
  coloured = [];
  showReach(current);
  colour(read, "query");
  colour(reads, "key");
  const marked = (position, name) => {
    tokenElements[position].classList.add(name);
    coloured.push(tokenElements[position]);
  };
  marked(current, "current");
  if (state.pinned !== null) marked(state.pinned, "pinned");
  if (state.key !== null && state.key !== current) marked(state.key, "pointed");
  showList("keys", `${quoted(current)} attends to`, reads);
  showList("queries", `attend to ${quoted(current)}`, read);
  document.getElementById("keys-rest").textContent = restOfKeys(current, reads);
  document.getElementById("queries-rest").textContent = restOfQueries(current, read);
}

function colour(found, className) {
  for (const { position, code } of found) {
    if (code < FAINTEST) break; // the largest come first
    const token = tokenElements[position];
    token.classList.add(className);
    token.style.setProperty("--a", (code / 255).toFixed(2));
    coloured.push(token);
  }
}

/** Write the largest weights beside their tokens: those of keys below, those of queries above. */
function labelTokens(reads, read) {
  const large = (found) => found.slice(0, LABELLED).filter(({ weight }) => weight >= 0.01);
  const text = document.getElementById("text");
  const frame = text.getBoundingClientRect();
  const labels = [...large(reads).map((entry) => [entry, true]), ...large(read).map((entry) => [entry, false])];
  const places = [];
  for (const [{ position, weight }, below] of labels) {
    const box = [...tokenElements[position].getClientRects()].at(-1); // a line may end within a token, after its space
    const place = {
      className: below ? "keys" : "queries",
      name: percent(weight).replace(" %", ""),
      left: box.left + box.width / 2 - frame.left - text.clientLeft,
      top: (below ? box.bottom + 2 : box.top - 11) - frame.top - text.clientTop + text.scrollTop,
    };
    const touches = ({ left, top }) => Math.abs(left - place.left) < 22 && Math.abs(top - place.top) < 9;
    if (!places.some(touches)) places.push(place); // the larger one stays
  }
  weightElements.forEach((element, i) => {
    const place = places[i];
    element.hidden = place === undefined;
    if (!place) return;
    element.className = place.className;
    element.textContent = place.name;
    element.style.left = `${place.left}px`;
    element.style.top = `${place.top}px`;
  });
}

/** Hatch what the window keeps apart from the current token. Only what changes is touched. */
function showReach(current) {
  const window = meta.windows[state.layer];
  const reach = window === null ? [0, T] : [Math.max(0, current - window + 1), Math.min(T, current + window)];
  const setBeyond = (from, to, beyond) => {
    for (let i = from; i < to; i++) tokenElements[i].classList.toggle("beyond", beyond);
  };
  const overlap = reach[0] < reached[1] && reached[0] < reach[1];
  if (!overlap) setBeyond(reached[0], reached[1], true);
  const [begin, end] = overlap ? reached : [reach[1], reach[1]];
  setBeyond(begin, reach[0], true);
  setBeyond(reach[0], Math.min(begin, reach[1]), false);
  setBeyond(reach[1], end, true);
  setBeyond(Math.max(end, reach[0]), reach[1], false);
  reached = reach;
}

function makeList(list) {
  for (let i = 0; i < ROWS; i++) {
    const button = document.createElement("button");
    button.type = "button";
    button.hidden = true;
    for (const name of ["name", "place", "value"]) {
      button.append(Object.assign(document.createElement("span"), { className: name }));
    }
    button.addEventListener("click", () => pin(Number(button.dataset.position)));
    list.append(document.createElement("li"));
    list.lastChild.append(button);
  }
}

function showList(id, title, found) {
  document.getElementById(`${id}-title`).textContent = title;
  document.querySelectorAll(`#${id} button`).forEach((button, i) => {
    button.hidden = i >= found.length;
    if (button.hidden) return;
    const { position, weight } = found[i];
    const [name, place, value] = button.children;
    name.textContent = label(position);
    place.textContent = position;
    value.textContent = percent(weight);
    button.dataset.position = position;
    button.style.setProperty("--w", weight.toFixed(3));
  });
}

function restOfKeys(current, reads) {
  const lost = notKept(state.pattern, current);
  const seen = current + 1 - firstSeen(state.layer, current);
  const more = seen - Math.min(ROWS, reads.length);
  const sum = reads.slice(ROWS).reduce((total, entry) => total + entry.weight, lost.sum);
  const parts = [];
  if (more > 0) parts.push(`${more} more: ${percent(sum)} together`);
  if (lost.most >= 0.001) parts.push(`${lost.count} of them were not kept, at most ${percent(lost.most)} each`);
  const hidden = current + 1 - seen;
  if (hidden > 0) parts.push(`${hidden} hidden by the window`);
  return parts.join("; ");
}

function restOfQueries(current, read) {
  const parts = [];
  if (current === T - 1) parts.push("nothing comes after it");
  if (read.length > ROWS) parts.push(`${read.length - ROWS} more${state.pattern.rest === null ? "" : " that were kept"}`);
  const window = meta.windows[state.layer];
  const hidden = window === null ? 0 : Math.max(0, T - current - window);
  if (hidden > 0) parts.push(`${hidden} cannot see it: it is outside their window`);
  return parts.join("; ");
}

/** Arrow keys: along the text, and to the token above or below. */
function moveInText(event) {
  const from = positionOf(event.target);
  if (from === null) return;
  const forward = getComputedStyle(document.getElementById("text")).direction === "rtl" ? -1 : 1;
  const moves = {
    ArrowLeft: () => from - forward,
    ArrowRight: () => from + forward,
    ArrowUp: () => tokenAbove(from, -1),
    ArrowDown: () => tokenAbove(from, 1),
    Home: () => 0,
    End: () => T - 1,
    Enter: () => pin(from),
    " ": () => pin(from),
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  const to = moves[event.key]();
  if (to !== undefined) focusToken(Math.min(T - 1, Math.max(0, to)));
}

/** The token on the next line, or on the one before, that is nearest. */
function tokenAbove(from, step) {
  const here = tokenElements[from].getBoundingClientRect();
  const middle = here.left + here.width / 2;
  let best = from;
  let least = Infinity;
  let line = null;
  for (let i = from + step; i >= 0 && i < T; i += step) {
    const box = tokenElements[i].getBoundingClientRect();
    if (Math.abs(box.bottom - here.bottom) < here.height / 2) continue;
    line ??= box.bottom;
    if (Math.abs(box.bottom - line) > here.height / 2) break;
    const distance = Math.abs(box.left + box.width / 2 - middle);
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function focusToken(position) {
  for (const token of document.querySelectorAll('.token[tabindex="0"]')) token.tabIndex = -1;
  tokenElements[position].tabIndex = 0;
  tokenElements[position].focus();
}
