"use strict";
// Loads the page's data. A page that is opened from a disk may load scripts and images only, so
// every file of data is a script that calls mmqsa.receive(value).

const mmqsa = (() => {
  const scripts = new Map(); // path -> promise of its value
  const decoded = new Map(); // path#position -> promise of labels, the latest used last
  const photographs = new Map(); // index -> promise of an image
  const KEPT = 400; // label maps, and photographs
  let catalogue = null;
  let reader = null; // context of a canvas that label maps are read through

  function receive(value) {
    document.currentScript.received = value;
  }

  function load(path) {
    if (!scripts.has(path)) {
      scripts.set(path, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = path;
        script.onload = () => {
          script.remove();
          resolve(script.received);
        };
        script.onerror = () => {
          script.remove();
          scripts.delete(path);
          reject(new Error(`${path} cannot be loaded; was the folder copied whole?`));
        };
        document.head.append(script);
      }));
    }
    return scripts.get(path);
  }

  function remember(cache, key, make) {
    const value = cache.get(key) ?? make();
    cache.delete(key); // and put it last
    cache.set(key, value);
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    value.catch(() => cache.delete(key));
    return value;
  }

  async function start() {
    catalogue = await load("data/catalogue.js");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = catalogue.side;
    reader = canvas.getContext("2d", { willReadFrequently: true });
    return catalogue;
  }

  // A PNG as text -> a label for each pixel, which is its grey level.
  async function decode(text) {
    const image = new Image();
    image.src = `data:image/png;base64,${text}`;
    await image.decode();
    reader.drawImage(image, 0, 0);
    const { data } = reader.getImageData(0, 0, catalogue.side, catalogue.side);
    const labels = new Uint8Array(data.length / 4);
    for (let pixel = 0; pixel < labels.length; pixel++) labels[pixel] = data[4 * pixel];
    return labels;
  }

  async function entry(folder, index) {
    const values = await load(`${folder}/${Math.floor(index / catalogue.chunk)}.js`);
    return values[index % catalogue.chunk];
  }

  const folderOf = (choice) => `${choice.method.folder}/${choice.seed}`;

  // The label map of a choice of method, seed and view.
  function labels(choice, index) {
    const folder = `${folderOf(choice)}/${choice.method.views.indexOf(choice.view)}`;
    return remember(decoded, `${folder}#${index}`, async () => decode(await entry(folder, index)));
  }

  // { heads: label maps before they are merged, visible: per patch whether training sees it }
  async function heads(choice, index) {
    const folder = `${folderOf(choice)}/heads`;
    const value = await entry(folder, index);
    const maps = value.heads.map((text, head) =>
      remember(decoded, `${folder}#${index}/${head}`, () => decode(text)));
    return { heads: await Promise.all(maps), visible: value.visible };
  }

  // { classes, instances: label maps or null, boxes: annotated ones or null }
  async function truth(index) {
    const value = await entry("data/truth", index);
    const read = (kind) => value[kind] &&
      remember(decoded, `truth#${index}/${kind}`, () => decode(value[kind]));
    const [classes, instances] = await Promise.all([read("classes"), read("instances")]);
    return { classes: classes ?? null, instances: instances ?? null, boxes: value.boxes ?? null };
  }

  // Metric -> its value of every image, of a choice.
  async function metrics(choice) {
    const views = await load(`${folderOf(choice)}/metrics.js`);
    return views[choice.method.views.indexOf(choice.view)];
  }

  function photograph(index) {
    return remember(photographs, index, async () => {
      const image = new Image();
      image.src = `photographs/${index}.webp`;
      await image.decode();
      return image;
    });
  }

  return { receive, start, labels, heads, truth, metrics, photograph };
})();
