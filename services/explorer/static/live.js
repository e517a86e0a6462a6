// The live page, from server-sent events. Every value becomes text or an attribute, never markup.
"use strict";
const MOST = 40;
const newest = document.getElementById("newest");
const pulse = document.getElementById("pulse");

function make(name, className, text, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function thumb(digest) {
  if (!digest) return make("span", "thumb none", "");
  const image = make("img", "thumb", "");
  image.src = `/media/${encodeURIComponent(digest)}`;
  image.alt = "";
  return image;
}

function score(value) {
  const meter = make("meter", "", "");
  Object.assign(meter, { min: 0, max: 1, low: 0.35, high: 0.65, optimum: 1, value });
  meter.setAttribute("aria-label", "score");
  return make("span", "score", "", meter, make("b", "", value.toFixed(2)));
}

function intention(row) {
  const link = make("a", "row fresh", "");
  link.href = `/pair?${new URLSearchParams({ a: row.product_a, b: row.product_b })}`;
  const names = make("span", "dim", "", make("bdi", "", row.title_a), " and ", make("bdi", "", row.title_b));
  const verdict = row.accepted ? "kept" : "rejected";
  const foot = make("span", "foot", "", make("span", "tag", row.relation), make("span", `verdict ${verdict}`, verdict), score(row.score));
  link.append(
    make("span", "two", "", thumb(row.image_a), thumb(row.image_b)),
    make("span", "said", "", make("q", "", "", make("bdi", "", row.sentence)), names, foot),
  );
  return make("li", "", "", link);
}

const events = new EventSource("/events");
events.addEventListener("open", () => { pulse.textContent = "following"; pulse.classList.add("on"); });
events.addEventListener("error", () => { pulse.textContent = "connecting again"; pulse.classList.remove("on"); });
events.addEventListener("intention", (event) => {
  newest.prepend(intention(JSON.parse(event.data)));
  while (newest.children.length > MOST) newest.lastElementChild.remove();
  document.getElementById("none")?.remove();
});
events.addEventListener("flow", (event) => {
  const flow = JSON.parse(event.data);
  const note = document.getElementById("trouble");
  note.textContent = flow.trouble;
  note.hidden = !flow.trouble;
  if (!flow.stages) return;
  document.getElementById("stages").replaceChildren(
    ...flow.stages.map((stage) => make(
      "li", stage.waiting ? "busy" : "", "",
      make("b", "", stage.stage), make("span", "dim", stage.topic), make("span", "count", stage.waiting.toLocaleString("en")),
    )),
  );
});
