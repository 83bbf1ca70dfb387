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

  function read() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    Object.assign(state, usual);
    for (const key of Object.keys(PLAIN)) if (key in given) state[key] = given[key];
    state.a = nameOf(choiceOf(state.a) ?? choiceOf(usual.a));
    if (state.b) state.b = nameOf(choiceOf(state.b));
    if (!metrics.some((one) => one.id === state.metric)) state.metric = usual.metric;
  }

  function write(changes) {
    Object.assign(state, changes);
    const entries = Object.entries(state).filter(([key, value]) => value !== usual[key]);
    const hash = new URLSearchParams(entries).toString();
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
  }

  return { state, usual, nameOf, choiceOf, read, write };
}
