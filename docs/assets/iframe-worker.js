// Search in a site that is opened from disk. Browsers start no worker there; the theme would fetch a
// stand-in from the network. This one runs the worker's script in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script>postMessage = (data) => answer(data)</script><script src="${url}"></script>`;
      this.frame.addEventListener("load", () => {
        this.frame.contentWindow.answer = (data) =>
          this.dispatchEvent(new MessageEvent("message", { data }));
        this.waiting.forEach((data) => this.tell(data));
        this.waiting = null;
      });
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.tell(data);
    }

    tell(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
