"use strict";
// One image, opened: its panels, scores, objects, and the heads before they are merged.

function makeDetail({ catalogue, state, layersOf, drawPanel, options, isLatest, scores, change, goTo, swatch }) {
  const $ = (id) => document.getElementById(id);
  const { images, metrics, side, grid } = catalogue;
  const { number, signed, valueOf, difference } = scores;
  const detail = $("detail");

  function figure(title, draws, colour = "") {
    const element = document.createElement("figure"), canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    const caption = document.createElement("figcaption");
    caption.append(swatch(colour), title);
    element.append(canvas, caption);
    draws(canvas);
    return element;
  }

  function table(heading, rows) {
    const element = document.createElement("table");
    const row = (cells, kind) => {
      const line = document.createElement("tr");
      line.append(...cells.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
      return line;
    };
    const first = row(heading, "th");
    for (const cell of first.children) cell.scope = "col";
    element.append(first, ...rows.map((cells) => row(cells, "td")));
    return element;
  }

  async function objectsOf(index, chosen) {
    const truth = await mmqsa.truth(index);
    const objects = truth.instances ?? truth.classes;
    const found = chosen.map(async (one) => draw.bestSlots(await mmqsa.labels(one, index), objects));
    const best = objects ? await Promise.all(found) : [];
    return images[index].objects.map(([name, share, label]) => [catalogue.classes[name],
      `${(100 * share).toFixed(1)} %`,
      ...best.map((ofOne) => number(100 * (ofOne.find((one) => one.label === label)?.iou ?? 0)))]);
  }

  async function show(a, b, shown) {
    const index = images.findIndex(({ id }) => id === state.image);
    if (index < 0) {
      if (detail.open) detail.close();
      return;
    }
    const latest = isLatest(), chosen = [a, b].filter(Boolean), place = shown.indexOf(index);
    const called = ({ method, seed, view }, at) => [
      ...(method.kind === "setting" ? [method.label] : []),
      ...(method.seeds.length > 1 ? [`seed ${seed}`] : []),
      view.label,
    ].join(", ").replace(/^/, b ? `${"AB"[at]}: ` : "");
    $("detail-title").textContent = images[index].id;
    $("detail-place").textContent = place < 0 ? "not among the images below" :
      `${place + 1} of ${shown.length}`;
    const bare = { masks: false, truth: false, boxes: false, hidden: false };
    const panels = [figure(catalogue.photographs ? "Photograph" : "No photograph on this page",
      (canvas) => drawPanel(canvas, index, null, bare))];
    panels.push(figure("Ground truth (white: not labelled)", async (canvas) => {
      const layers = await layersOf(index, null);
      Object.assign(layers, { labels: layers.outlines, skipped: 0 });
      if (latest()) draw.panel(canvas, side, grid, layers, { ...options(), ...bare, masks: true, void: true });
    }));
    panels.push(...chosen.map((one, at) => figure(called(one, at),
      (canvas) => drawPanel(canvas, index, one), one.method.colour)));
    $("detail-panels").replaceChildren(...panels);
    const marks = chosen.length > 1 ? ["A", "B", "A − B"] : [""];
    $("detail-scores").replaceChildren(table(["%", ...marks], metrics
      .filter(({ id }) => valueOf("a", index, id) !== null)
      .map(({ id, label }) => [label, number(valueOf("a", index, id)),
        ...(b ? [number(valueOf("b", index, id)), signed(difference(index, id))] : [])])));
    const objects = await objectsOf(index, chosen);
    if (!latest()) return;
    $("detail-objects").replaceChildren(table(
      ["object", "share of what is labelled", ...(b ? ["IoU of A", "IoU of B"] : ["IoU of its best slot"])], objects));
    const rows = await Promise.all(chosen.map(async (one, at) => {
      if (!one.method.heads) return [];
      const [{ heads, visible }, layers] = await Promise.all([mmqsa.heads(one, index), layersOf(index, one, a)]);
      const row = document.createElement("div");
      row.className = "heads";
      const extra = visible ? [figure("what masking leaves", (canvas) => draw.panel(canvas, side, grid,
        { photograph: layers.photograph, visible }, { ...bare, hidden: true }))] : [];
      row.append(...extra, ...heads.map((labels, head) => figure(`head ${head + 1}`, (canvas) =>
        draw.panel(canvas, side, grid, { ...layers, labels, merged: layers.labels },
          { ...options(), hidden: false, boxes: false }))));
      const title = Object.assign(document.createElement("h3"), {
        textContent: `Heads of ${b ? `${"AB"[at]}, ` : ""}${one.method.label} before merging (attention)` });
      return [title, row];
    }));
    if (!latest()) return;
    $("detail-heads").replaceChildren(...rows.flat());
    if (!detail.open) detail.showModal();
    detail.dataset.image = state.image;
  }

  $("detail-before").addEventListener("click", () => goTo(-1));
  $("detail-after").addEventListener("click", () => goTo(1));
  $("detail-close").addEventListener("click", () => detail.close());
  detail.addEventListener("close", () => change({ image: "" }));

  return { element: detail, show };
}
