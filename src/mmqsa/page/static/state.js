"use strict";
// What is chosen on the page: text by key, as it stands in the address, so that a link shares it.

function makeState(catalogue) {
  const { methods, metrics } = catalogue;
  const PLAIN = {
    a: "", b: "", metric: "", sort: "a", order: "down", class: "", size: "", number: "", least: "",
    most: "", search: "", opacity: "55", colours: "slot", masks: "1", truth: "", boxes: "",
    hidden: "", image: "",
  };

  // A choice of method, seed and view as text, and back; what there is not becomes the first.
  const nameOf = ({ method, seed, view }) => `${method.id},${seed},${view.id}`;

  function choiceOf(text) {
    if (!text) return null;
    const [id, seed, ...view] = text.split(",");
    const method = methods.find((one) => one.id === id) ?? methods[0];
    return {
      method,
      seed: method.seeds.find((one) => String(one) === seed) ?? method.seeds[0],
      view: method.views.find((one) => one.id === view.join(",")) ?? method.views[0],
    };
  }

  const usual = (() => {
    const method = methods.find((one) => one.id === catalogue.showcase) ?? methods[0];
    const view = method.views.find((one) => one.id === "hungarian/attention") ?? method.views[0];
    const metric = metrics.find((one) => one.id === "mbo_c") ?? metrics[0];
    return { ...PLAIN, a: nameOf({ method, seed: method.seeds[0], view }), metric: metric.id };
  })();

  const state = { ...usual };

  const oneOf = (...words) => (value) => words.includes(value);
  const numberFrom = (low, high) => (value) => value !== "" && value >= low && value <= high;
  const FLAG = oneOf("", "1");
  const FITS = { // what an address may say
    metric: (value) => metrics.some((one) => one.id === value),
    sort: (value) => oneOf("a", "largest", "objects", "name")(value) ||
      (Boolean(state.b) && oneOf("b", "difference")(value)),
    order: oneOf("down", "up"),
    class: (value) => !value || value in catalogue.classes,
    size: oneOf("", "0", "1", "2", "3", "4"),
    number: oneOf("", "0", "1", "2"),
    least: (value) => !value || numberFrom(-100, 100)(value),
    most: (value) => !value || numberFrom(-100, 100)(value),
    search: () => true,
    opacity: numberFrom(0, 100),
    colours: oneOf("slot", "class"),
    masks: FLAG, truth: FLAG, boxes: FLAG, hidden: FLAG,
    image: (value) => !value || catalogue.images.some(({ id }) => id === value),
  };

  function read() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    Object.assign(state, usual);
    state.a = nameOf(choiceOf(given.a) ?? choiceOf(usual.a));
    state.b = given.b ? nameOf(choiceOf(given.b)) : "";
    for (const [key, fits] of Object.entries(FITS)) {
      if (key in given && fits(given[key])) state[key] = given[key];
    }
  }

  function hash() {
    const entries = Object.entries(state).filter(([key, value]) => value !== usual[key]);
    return new URLSearchParams(entries).toString();
  }

  function write(changes) {
    const opens = changes.image && !state.image; // so that Back closes it
    Object.assign(state, changes);
    if (hash() === location.hash.slice(1)) return;
    history[opens ? "pushState" : "replaceState"](null, "", `#${hash()}`);
  }

  return { state, usual, nameOf, choiceOf, read, write, hash };
}
