"use strict";
// Up the layers: where the pinned token reads from in each layer, so that one can go on from there.

const CHIPS = 4; // keys of a layer
let followed = 0; // counts what was asked for, so that what comes late is dropped

function makeFollow() {
  const select = document.getElementById("follow-heads");
  const choices = [["chosen", "the chosen head"], ["mean", "the mean of heads"], ["each", "each head"]];
  for (const [value, text] of choices) select.append(new Option(text, value));
  select.value = HEADS > 1 ? "mean" : "chosen";
  select.addEventListener("change", showFollowed);
  const rows = document.getElementById("follow-rows");
  for (let layer = 0; layer < LAYERS; layer++) {
    const line = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.append(`layer ${layer} `, tag(layer));
    line.append(name, document.createElement("td"));
    rows.append(line);
  }
}

/** Fill the panel for the pinned token, layer by layer as their patterns are unpacked. */
async function showFollowed() {
  const asked = ++followed;
  const token = state.pinned;
  const how = document.getElementById("follow-heads").value;
  document.getElementById("follow-title").textContent = token === null ? "Up the layers" : `${quoted(token)} up the layers`;
  document.getElementById("follow-note").textContent =
    token === null
      ? "Pin a token (click, or Enter) to see where it reads from in each layer."
      : `Where token ${token} reads from. Choose one of these tokens to follow that one.`;
  const lines = document.getElementById("follow-rows").children;
  for (let layer = 0; layer < LAYERS; layer++) {
    const chips = token === null ? [] : await chipsOf(layer, token, how);
    if (asked !== followed) return;
    lines[layer].lastChild.replaceChildren(...chips);
  }
}

async function chipsOf(layer, token, how) {
  if (how === "chosen") {
    return readsFrom(await patternOf(layer, state.head), token).slice(0, CHIPS).map((entry) => chip(layer, entry));
  }
  const all = await Promise.all(Array.from({ length: HEADS }, (_, head) => patternOf(layer, head)));
  if (how === "each") {
    return all.map((pattern, head) => ({ head, entry: readsFrom(pattern, token)[0] }))
      .filter(({ entry }) => entry)
      .map(({ head, entry }) => chip(layer, entry, head));
  }
  return meanOf(all, token).slice(0, CHIPS).map((entry) => chip(layer, entry));
}

/** What a token attends to on average over heads; what was not kept counts as 0. */
function meanOf(all, token) {
  const sums = new Map();
  for (const pattern of all) {
    for (const { position, weight } of readsFrom(pattern, token)) sums.set(position, (sums.get(position) ?? 0) + weight);
  }
  const mean = [...sums].map(([position, sum]) => ({ position, weight: sum / HEADS }));
  return mean.sort((a, b) => b.weight - a.weight || a.position - b.position);
}

/** A button with a key and its weight; in a head's own chip, the head's number. */
function chip(layer, { position, weight }, head = null) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.style.setProperty("--a", Math.sqrt(weight).toFixed(2));
  const parts = head === null ? [] : [["small", "", `${head}: `]];
  parts.push(["span", "name", label(position)], ["small", "", ` ${position} `], ["span", "value", percent(weight)]);
  for (const [element, className, text] of parts) {
    button.append(Object.assign(document.createElement(element), { className, textContent: text }));
  }
  button.title = `pin token ${position}`;
  button.addEventListener("click", () => {
    if (head !== null) chooseHead(layer, head);
    pin(position, true);
  });
  button.addEventListener("pointerenter", () => pointAtKey(position));
  button.addEventListener("pointerleave", () => pointAtKey(null));
  button.addEventListener("focus", () => pointAtKey(position));
  button.addEventListener("blur", () => pointAtKey(null));
  return button;
}
