"use strict";
// Draws an image with what is laid over it: masks, ground truth, boxes, hidden patches.

const draw = (() => {
  const VOID = 255;
  const COLOURS = [ // the first for slots; twenty, as many as VOC has classes
    [31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75],
    [227, 119, 194], [188, 189, 34], [23, 190, 207], [255, 187, 120], [152, 223, 138], [158, 218, 229],
    [174, 199, 232], [255, 152, 150], [197, 176, 213], [196, 156, 148], [247, 182, 210], [219, 219, 141],
    [57, 59, 121], [99, 121, 57],
  ];
  const GREY = [150, 150, 150];

  // How many pixels each pair of labels of two maps shares: Map of first -> Map of second -> count.
  function overlaps(first, second) {
    const counts = new Uint32Array(256 * 256), found = new Map();
    for (let pixel = 0; pixel < first.length; pixel++) counts[256 * first[pixel] + second[pixel]]++;
    counts.forEach((count, pair) => {
      if (!count) return;
      const one = pair >> 8;
      if (!found.has(one)) found.set(one, new Map());
      found.get(one).set(pair & 255, count);
    });
    return found;
  }

  // Each slot -> a slot of another map, the pairs that share most pixels first.
  function matched(labels, others) {
    const pairs = [...overlaps(labels, others)].flatMap(([slot, ofSlot]) =>
      [...ofSlot].map(([other, count]) => [slot, other, count]));
    const slots = new Map(), taken = new Set();
    for (const [slot, other] of pairs.sort((one, two) => two[2] - one[2])) {
      if (!slots.has(slot) && !taken.has(other)) slots.set(slot, other);
      if (slots.get(slot) === other) taken.add(other);
    }
    let free = 0; // slots that are left over get the colours that are
    for (const slot of new Set(labels)) {
      if (slots.has(slot)) continue;
      while (taken.has(free)) free += 1;
      slots.set(slot, free);
      taken.add(free);
    }
    return slots;
  }

  // One colour a slot, or that of its counterpart in the map `like`, which the slots of `merged`
  // have; or that of the class which the slot covers most, grey for background.
  function coloursOf(labels, { classes, like, merged }, byClass) {
    const colour = (number) => COLOURS[number % COLOURS.length];
    if (byClass && classes) {
      const most = new Map([...overlaps(labels, classes)].map(([slot, ofSlot]) => {
        ofSlot.delete(VOID);
        return [slot, [...ofSlot].reduce((one, other) => (other[1] > one[1] ? other : one), [0, 0])[0]];
      }));
      return (slot) => (most.get(slot) ? colour(most.get(slot)) : GREY);
    }
    const slots = like ? matched(merged ?? labels, like) : null;
    return (slot) => colour(slots?.get(slot) ?? slot);
  }

  // A canvas of labels: filled with one opacity, outlined with another. `skipped` stays clear.
  function layer(labels, side, colour, filled, outlined, skipped = -1) {
    const image = new ImageData(side, side), { data } = image;
    const colours = new Map([...new Set(labels)].map((label) => [label, colour(label)]));
    const fills = [255 * filled, 255 * outlined];
    for (let pixel = 0; pixel < labels.length; pixel++) {
      const label = labels[pixel];
      const right = (pixel + 1) % side ? labels[pixel + 1] : label;
      const below = pixel + side < labels.length ? labels[pixel + side] : label;
      const edge = label !== right || label !== below;
      if (label === skipped && !edge) continue;
      const rgb = colours.get(label !== skipped ? label : label !== right ? right : below);
      const at = 4 * pixel;
      data[at] = rgb[0];
      data[at + 1] = rgb[1];
      data[at + 2] = rgb[2];
      data[at + 3] = fills[edge ? 1 : 0];
    }
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  // Tight boxes [x0, y0, x1, y1] by label, of the pixels that are scored.
  function boxesOf(labels, side, classes = null) {
    const boxes = new Map();
    for (let pixel = 0; pixel < labels.length; pixel++) {
      if (classes?.[pixel] === VOID) continue;
      const x = pixel % side, y = Math.floor(pixel / side), label = labels[pixel];
      const box = boxes.get(label);
      if (!box) boxes.set(label, [x, y, x + 1, y + 1]);
      else {
        if (x < box[0]) box[0] = x;
        if (x >= box[2]) box[2] = x + 1;
        box[3] = y + 1;
      }
    }
    return boxes;
  }

  // For each class of an image the slot with the greatest IoU: [{ label, slot, iou }].
  function bestSlots(labels, classes) {
    const bySlot = overlaps(labels, classes), areas = new Map();
    bySlot.forEach((ofSlot) => {
      ofSlot.delete(VOID); // pixels that no metric counts
      ofSlot.forEach((count, label) => areas.set(label, (areas.get(label) ?? 0) + count));
    });
    const sum = (counts) => [...counts.values()].reduce((total, count) => total + count, 0);
    return [...areas.keys()].filter((label) => label).sort((one, two) => one - two).map((label) => {
      const ious = [...bySlot].map(([slot, ofSlot]) => {
        const both = ofSlot.get(label) ?? 0;
        return { label, slot, iou: both / (areas.get(label) + sum(ofSlot) - both) };
      });
      return ious.reduce((one, other) => (other.iou > one.iou ? other : one));
    });
  }

  function stroke(context, box, colour, dashes) {
    const [x0, y0, x1, y1] = box;
    for (const [width, shade] of [[5, "white"], [2.5, colour]]) {
      context.lineWidth = width;
      context.strokeStyle = shade;
      context.setLineDash(shade === "white" ? [] : dashes);
      context.strokeRect(x0 + 1, y0 + 1, x1 - x0 - 2, y1 - y0 - 2);
    }
  }

  // `layers`: photograph, labels, classes, outlines (of objects, void as background), boxes
  // (annotated), visible, like and merged (see coloursOf), skipped (a label that stays clear); each
  // may be absent. `options`: masks, truth, boxes, hidden, void (white it), byClass, opacity.
  function panel(canvas, side, grid, layers, options) {
    const { photograph, labels, classes, outlines, boxes, visible } = layers;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    if (photograph) context.drawImage(photograph, 0, 0, side, side);
    else {
      context.fillStyle = "#888";
      context.fillRect(0, 0, side, side);
    }
    if (labels && options.masks) {
      const filled = photograph ? options.opacity : 0.8;
      const colours = coloursOf(labels, layers, options.byClass);
      const masks = layer(labels, side, colours, filled, Math.min(1, filled + 0.4), layers.skipped);
      context.drawImage(masks, 0, 0);
    }
    if (options.void && classes?.includes(VOID)) {
      const unlabelled = classes.map((label) => Number(label === VOID));
      context.drawImage(layer(unlabelled, side, () => [255, 255, 255], 0.75, 0.75, 0), 0, 0);
    }
    if (visible && options.hidden) {
      context.fillStyle = "rgba(0, 0, 0, 0.8)";
      const patch = side / grid;
      [...visible].forEach((shown, place) => {
        if (shown === "0") {
          context.fillRect((place % grid) * patch, Math.floor(place / grid) * patch, patch, patch);
        }
      });
    }
    if (outlines && options.truth) {
      const edges = layer(outlines, side, () => [255, 255, 255], 0, 1, 0);
      context.filter = "drop-shadow(0 0 1px black) drop-shadow(0 0 1px black)";
      context.drawImage(edges, 0, 0);
      context.drawImage(edges, 1, 0);
      context.filter = "none";
    }
    if (options.boxes) {
      const annotated = boxes ?? (outlines ? [...boxesOf(outlines, side)]
        .filter(([label]) => label).map(([, box]) => box) : []);
      annotated.forEach((box) => stroke(context, box, "black", []));
      if (labels && outlines) {
        const found = boxesOf(labels, side, classes);
        new Set(bestSlots(labels, outlines).map((best) => best.slot))
          .forEach((slot) => stroke(context, found.get(slot), "#d62728", [10, 6]));
      } else if (labels) {
        boxesOf(labels, side).forEach((box) => stroke(context, box, "#d62728", [10, 6]));
      }
    }
  }

  return { panel, bestSlots };
})();
