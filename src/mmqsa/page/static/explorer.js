"use strict";
// The explorer: every image as a tile, which opens; its whole state is in the address.

(async () => {
  const $ = (id) => document.getElementById(id);

  function report(error) {
    $("count").textContent = error.message;
    delete document.body.dataset.busy;
  }

  const began = performance.now();
  const catalogue = await mmqsa.start().catch(report);
  if (!catalogue) return;
  const { images, methods, metrics, side, grid } = catalogue;
  const SIZES = [[0, "≤ 1 %"], [0.01, "1–3 %"], [0.03, "3–10 %"], [0.1, "10–30 %"], [0.3, "> 30 %"]];
  const NUMBERS = ["1 object", "2 objects", "3 or more"];
  const FIELDS = ["metric", "sort", "order", "class", "size", "number", "least", "most", "search",
    "opacity", "colours"];
  const FLAGS = ["masks", "truth", "boxes", "hidden"];
  const { state, usual, nameOf, choiceOf, read, write, hash } = makeState(catalogue);

  function change(changes) {
    write(changes);
    return refresh();
  }

  // ---- controls ----

  const option = (value, text) => new Option(text, value);

  function fill(select, options, value) {
    select.replaceChildren(...options);
    select.value = value;
  }

  function fillChoice(side) {
    const chosen = choiceOf(state[side]);
    const groups = { setting: "Settings", other: "Methods of other code", method: "Other methods",
      control: "Controls" };
    const options = Object.entries(groups).map(([kind, label]) => {
      const group = Object.assign(document.createElement("optgroup"), { label });
      group.append(...methods.filter((one) => one.kind === kind).map((one) => option(one.id, one.label)));
      return group;
    }).filter((group) => group.children.length);
    if (side === "b") options.unshift(option("", "nothing"));
    fill($(`${side}-method`), options, chosen?.method.id ?? "");
    $(`${side}-method`).style.boxShadow = chosen?.method.colour ? `inset 5px 0 ${chosen.method.colour}` : "";
    const parts = { seed: [], matching: [], source: [], variant: [] };
    if (chosen) {
      const { method, view } = chosen;
      if (method.kind === "setting") {
        parts.seed = method.seeds.map((seed) => option(seed, `seed ${seed}`));
        const matchings = new Map(method.views.map((one) => [one.matching, one.matchingLabel]));
        parts.matching = [...matchings].map(([id, label]) => option(id, label));
        parts.source = method.views.filter((one) => one.matching === view.matching)
          .map((one) => option(one.source, one.sourceLabel));
      } else parts.variant = method.views.map((one) => option(one.id, one.label));
    }
    const values = { seed: chosen?.seed, matching: chosen?.view.matching, source: chosen?.view.source,
      variant: chosen?.view.id };
    for (const [part, list] of Object.entries(parts)) {
      fill($(`${side}-${part}`), list, values[part] ?? "");
      $(`${side}-${part}`).hidden = !list.length;
    }
  }

  // A mark in a method's own colour; nothing where it has none.
  function swatch(colour) {
    const mark = document.createElement("i");
    if (!colour) return mark;
    mark.className = "swatch";
    mark.style.background = colour;
    return mark;
  }

  function chosenBy(side) {
    const method = methods.find((one) => one.id === $(`${side}-method`).value);
    if (!method) return "";
    const before = choiceOf(state[side]) ?? choiceOf(state.a);
    const matching = $(`${side}-matching`).value || before.view.matching;
    const source = $(`${side}-source`).value || before.view.source;
    const fits = (one) => (method.kind === "setting"
      ? [one.matching === matching && one.source === source, one.source === source]
      : [one.id === $(`${side}-variant`).value]);
    const ranked = [0, 1].map((rank) => method.views.find((one) => fits(one)[rank]));
    const view = ranked.find(Boolean) ?? method.views[0];
    const seed = method.seeds.find((one) => String(one) === $(`${side}-seed`).value) ?? method.seeds[0];
    return nameOf({ method, seed, view });
  }

  function fillControls() {
    ["a", "b"].forEach(fillChoice);
    FIELDS.forEach((key) => { // what is being typed is left alone: half a number is none
      const typed = ["number", "search"].includes($(key).type) && document.activeElement === $(key);
      if (!typed) $(key).value = state[key];
    });
    flagBoxes().forEach(([key, box]) => { box.checked = Boolean(state[key]); });
    const others = [state.a, state.b].map(choiceOf).filter((one) => one?.method.kind === "other");
    $("sources").replaceChildren(...[...new Set(others.map((one) => one.method))].map(({ label, source, colour }) => {
      const line = document.createElement("div");
      line.append(swatch(colour), `${label}: ${source || "no source is given"}`);
      return line;
    }));
    $("sources").hidden = !others.length;
    for (const select of document.querySelectorAll(".bar select")) {
      select.title = select.selectedOptions[0]?.text ?? "";
    }
    for (const one of $("sort").options) one.disabled = ["b", "difference"].includes(one.value) && !state.b;
  }

  // Each switch of an overlay, below the tiles' bar and in the opened image's.
  function flagBoxes() {
    const inDetail = [...document.querySelectorAll("[data-flag]")].map((box) => [box.dataset.flag, box]);
    return [...FLAGS.map((key) => [key, $(key)]), ...inDetail];
  }

  function prepareControls() {
    fill($("metric"), metrics.map((one) => option(one.id, one.label)), state.metric);
    const counts = new Map();
    images.forEach(({ objects }) => new Set(objects.map(([label]) => label))
      .forEach((label) => counts.set(label, (counts.get(label) ?? 0) + 1)));
    const classes = [...counts].sort((one, two) => one[0] - two[0])
      .map(([label, count]) => option(label, `${catalogue.classes[label]} (${count})`));
    fill($("class"), [option("", "any class"), ...classes], "");
    fill($("size"), [option("", "any size"), ...SIZES.map(([, text], at) => option(at, text))], "");
    fill($("number"), [option("", "any number"), ...NUMBERS.map((text, at) => option(at, text))], "");
    flagBoxes().filter(([key]) => key === "hidden").forEach(([, box]) => {
      box.closest("label").hidden = !methods.some((one) => one.visible);
    });
    for (const side of ["a", "b"]) for (const part of ["method", "seed", "matching", "source", "variant"]) {
      $(`${side}-${part}`).addEventListener("change", () => {
        const value = chosenBy(side);
        const needless = side === "b" && !value && ["b", "difference"].includes(state.sort);
        change({ [side]: value, ...(needless && { sort: "a" }) });
      });
    }
    FIELDS.forEach((key) => $(key).addEventListener("input", () => change({ [key]: $(key).value })));
    flagBoxes().forEach(([key, box]) => {
      box.addEventListener("change", () => change({ [key]: box.checked ? "1" : "" }));
    });
    $("reset").addEventListener("click", () => change({ ...usual }));
    $("link").addEventListener("click", async () => {
      let done = "The address bar has the link";
      try {
        await navigator.clipboard.writeText(`${location.href.split("#")[0]}#${hash()}`);
        done = "Link copied; in another copy of the folder, add it from # on to the address";
      } catch { /* a browser may keep the clipboard to itself */ }
      $("told").textContent = done;
      setTimeout(() => { $("told").textContent = ""; }, 6000);
    });
  }

  // ---- which images, in which order ----

  let values = { a: null, b: null }; // metric -> values, of each choice
  let shown = []; // indices of images

  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));
  const signed = (value) => (value === null ? "–" :
    `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}`);
  const valueOf = (side, index, metric = state.metric) => values[side]?.[metric]?.[index] ?? null;

  function difference(index, metric = state.metric) {
    const [one, two] = [valueOf("a", index, metric), valueOf("b", index, metric)];
    return one === null || two === null ? null : Math.round(10 * (one - two)) / 10;
  }

  function sizeOf(share) {
    return SIZES.findLastIndex(([low]) => share > low || low === 0);
  }

  function isShown(index) {
    const { id, objects } = images[index], value = valueOf("a", index);
    if (state.search && !id.toLowerCase().includes(state.search.toLowerCase())) return false;
    if (state.number && Math.min(objects.length, 3) - 1 !== Number(state.number)) return false;
    const fits = objects.some(([label, share]) =>
      (!state.class || label === Number(state.class)) && (!state.size || sizeOf(share) === Number(state.size)));
    if ((state.class || state.size) && !fits) return false;
    if (state.least && !(value !== null && value >= Number(state.least))) return false;
    if (state.most && !(value !== null && value <= Number(state.most))) return false;
    return true;
  }

  const KEYS = {
    a: (index) => valueOf("a", index),
    b: (index) => valueOf("b", index),
    difference: (index) => difference(index),
    largest: (index) => Math.max(0, ...images[index].objects.map(([, share]) => share)),
    objects: (index) => images[index].objects.length,
    name: (index) => rank.get(index),
  };
  const rank = new Map(images.map((_, index) => index)
    .sort((one, two) => images[two].id.localeCompare(images[one].id, "en", { numeric: true }))
    .map((index, place) => [index, place]));

  function ordered() {
    const key = KEYS[state.sort] ?? KEYS.a, turned = state.order === "up" ? -1 : 1;
    const keys = images.map((_, index) => key(index));
    return images.map((_, index) => index).filter(isShown).sort((one, two) =>
      (keys[one] === null) - (keys[two] === null) || turned * (keys[two] - keys[one]) || one - two);
  }

  function mean(list) {
    const known = list.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  function tell() {
    const label = metrics.find((one) => one.id === state.metric)?.label ?? "";
    const parts = [`${shown.length.toLocaleString("en")} of ${images.length.toLocaleString("en")} images`];
    const ofA = mean(shown.map((index) => valueOf("a", index)));
    parts.push(`mean ${label}: ${state.b ? "A " : ""}${number(ofA)}`);
    if (state.b) {
      parts.push(`B ${number(mean(shown.map((index) => valueOf("b", index))))}`);
      parts.push(`A − B ${signed(mean(shown.map((index) => difference(index))))}`);
    }
    $("count").textContent = shown.length ? parts.join(" · ") :
      `${parts[0]}: nothing is like this; press Reset`;
  }

  // ---- drawing ----

  let drawing = 0; // raised by every change: what was begun before it is not drawn
  const options = () => ({
    ...Object.fromEntries(FLAGS.map((key) => [key, Boolean(state[key])])),
    opacity: Number(state.opacity) / 100, byClass: state.colours === "class",
  });
  const withoutVoid = (labels) => labels?.map((label) => (label === 255 ? 0 : label)) ?? null;

  const NO_TRUTH = { classes: null, instances: null, boxes: null };

  // Of a tile the ground truth only where it shows: it takes as long as the masks.
  async function layersOf(index, chosen, like = null, withTruth = true) {
    const [photograph, labels, others, truth, heads] = await Promise.all([
      catalogue.photographs ? mmqsa.photograph(index) : null,
      chosen ? mmqsa.labels(chosen, index) : null,
      like && nameOf(like) !== nameOf(chosen) ? mmqsa.labels(like, index) : null,
      withTruth ? mmqsa.truth(index) : NO_TRUTH,
      chosen?.method.visible && state.hidden ? mmqsa.heads(chosen, index) : null,
    ]);
    return { photograph, labels, like: others, classes: truth.classes, boxes: truth.boxes,
      outlines: withoutVoid(truth.instances ?? truth.classes), visible: heads?.visible };
  }

  async function drawPanel(canvas, index, chosen, changes = {}) {
    const asked = drawing;
    const withTruth = Boolean(state.truth || state.boxes || state.colours === "class");
    const layers = await layersOf(index, chosen, chosen && choiceOf(state.a), withTruth);
    if (asked === drawing) draw.panel(canvas, side, grid, layers, { ...options(), ...changes });
  }

  const tiles = images.map(({ id }, index) => {
    const tile = document.createElement("button");
    tile.className = "tile";
    tile.type = "button";
    tile.dataset.index = index;
    tile.title = id;
    tile.innerHTML = '<span class="panels"></span><span class="caption"></span>';
    tile.addEventListener("click", () => change({ image: id }));
    return tile;
  });

  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        visible.add(target);
        drawTile(target).catch(report);
      } else {
        visible.delete(target);
        target.firstChild.replaceChildren(); // and its canvases with it
      }
    }
  }, { rootMargin: "200px" });
  tiles.forEach((tile) => watcher.observe(tile));

  async function drawTile(tile) {
    const index = Number(tile.dataset.index), chosen = [choiceOf(state.a), choiceOf(state.b)].filter(Boolean);
    const panels = tile.firstChild;
    while (panels.children.length > chosen.length) panels.lastChild.remove();
    while (panels.children.length < chosen.length) panels.append(document.createElement("canvas"));
    await Promise.all(chosen.map((one, at) => drawPanel(panels.children[at], index, one)));
    if (!document.body.dataset.firstTile) document.body.dataset.firstTile = performance.now() - began;
  }

  function caption(index) {
    const { id } = images[index];
    const text = state.b ? `${number(valueOf("a", index))} | ${number(valueOf("b", index))} ` +
      `(${signed(difference(index))})` : number(valueOf("a", index));
    return [id, text];
  }

  const refresh = () => refreshed().catch(report);

  async function refreshed() {
    const asked = ++drawing;
    document.body.dataset.busy = "true"; // until all that is seen is drawn
    fillControls();
    const [a, b] = [choiceOf(state.a), choiceOf(state.b)];
    const loaded = await Promise.all([mmqsa.metrics(a), b ? mmqsa.metrics(b) : null]);
    if (asked !== drawing) return;
    values = { a: loaded[0], b: loaded[1] };
    const began = performance.now(), before = shown;
    shown = ordered();
    $("tiles").classList.toggle("paired", Boolean(b));
    if (before.length !== shown.length || before.some((index, at) => index !== shown[at])) {
      $("tiles").replaceChildren(...shown.map((index) => tiles[index]));
      tiles.forEach((tile) => { tile.tabIndex = -1; });
      if (shown.length) tiles[shown[0]].tabIndex = 0; // Tab enters the tiles once; arrows move in them
    }
    for (const index of shown) {
      const [id, text] = caption(index);
      tiles[index].lastChild.replaceChildren(Object.assign(document.createElement("span"), { textContent: id }),
        Object.assign(document.createElement("b"), { textContent: text }));
      tiles[index].setAttribute("aria-label", `${id}: ${text}`);
    }
    tell();
    document.body.dataset.sorted = performance.now() - began;
    await Promise.all([...[...visible].map(drawTile), detail.show(a, b, shown)]);
    if (asked === drawing) delete document.body.dataset.busy;
  }

  // ---- one image ----

  function goTo(by) {
    const place = shown.findIndex((index) => images[index].id === state.image);
    const next = shown[Math.min(Math.max(place + by, 0), shown.length - 1)];
    if (next !== undefined) change({ image: images[next].id });
  }

  function isLatest() {
    const asked = drawing;
    return () => asked === drawing;
  }

  const detail = makeDetail({ catalogue, state, layersOf, drawPanel, options, isLatest, change, goTo, swatch,
    scores: { number, signed, valueOf, difference } });
  detail.element.addEventListener("close", () => {
    tiles[images.findIndex(({ id }) => id === detail.element.dataset.image)]?.focus();
  });

  // ---- keyboard ----

  function columns() {
    return getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=number], input[type=search], input[type=range], select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const flag = FLAGS.find((key) => key[0] === event.key);
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
    const move = moves[event.key];
    if (flag) change({ [flag]: state[flag] ? "" : "1" });
    else if (event.key === "/") {
      event.preventDefault();
      $("search").focus();
    } else if (detail.element.open && Math.abs(move) === 1) goTo(move);
    else if (!detail.element.open && move && event.target.classList.contains("tile")) {
      event.preventDefault();
      const place = shown.indexOf(Number(event.target.dataset.index)) + move;
      tiles[shown[place]]?.focus();
    }
  });

  read();
  prepareControls();
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a place on the page, no state
    read();
    refresh();
  });
  for (const link of document.querySelectorAll('nav a[href^="#"]')) {
    link.addEventListener("click", (event) => { // which would take the state out of the address
      event.preventDefault();
      const place = $(link.hash.slice(1));
      place.tabIndex = -1;
      place.focus({ preventScroll: true });
      place.scrollIntoView();
    });
  }
  await refresh();
  if (location.hash.includes("=")) $("explorer").scrollIntoView();
  document.body.dataset.ready = performance.now() - began;
})();
