// A panel on a node: a DOM widget that is not part of the workflow.

const GAP = 4; // the canvas adds it below every widget whose size is computed

/**
 * Adds `element` to the node, `height()` pixels high, or more where it `grows` with the
 * node. Its value is saved nowhere, so graphs with and without this script hold the same
 * widget values.
 */
export function addPanel(node, name, element, height, grows = false) {
  const widget = node.addDOMWidget(name, "ovis_panel", element, {
    serialize: false,
    hideOnZoom: false,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: height,
    getMaxHeight: grows ? undefined : height,
  });
  widget.serialize = false;
  if (!grows) {
    // Nodes 2.0 shares a node's spare height among the widgets that have a layout; one
    // without is as high as its content there.
    widget.computeLayoutSize = undefined;
    widget.computeSize = (width) => [width, height() - GAP];
  }
  return widget;
}

const MARGINS = 24; // ComfyUI's above and below a DOM widget, and a little air

/** A panel that is as high as the lines in it, and takes no room without any. */
export class LinesPanel {
  constructor(node, name, className) {
    this.node = node;
    this.list = html("div", { className });
    this.list.style.cssText = "display:flex;flex-direction:column;gap:4px";
    const frame = html("div", {}, this.list);
    frame.style.cssText = "overflow:hidden;font:12px/1.35 sans-serif";
    this.height = 0;
    addPanel(node, name, frame, () => this.height);
  }

  /** Shows these elements in the place of those before. */
  show(...lines) {
    for (const line of lines) {
      line.style.cssText +=
        "padding:4px 6px;border-left:3px solid #e0a83b;border-radius:3px;" +
        "background:#e0a83b22;color:var(--input-text,#ddd);white-space:pre-wrap;" +
        "overflow-wrap:anywhere";
    }
    this.list.replaceChildren(...lines);
    this.measure();
  }

  /**
   * Makes room for the lines, which break anew when the node gets wider, or takes it back
   * when there are none. To be called again and again: out of sight they have no height.
   */
  measure() {
    const lines = this.list.childElementCount;
    if (lines && !this.list.offsetHeight) return;
    const height = lines ? this.list.offsetHeight + MARGINS : 0;
    if (height === this.height) return;
    const { node, height: before } = this;
    this.height = height;
    if (!before) this.without = node.size[1];
    if (height) return fit(node);
    const [width, current] = node.size;
    node.setSize([width, Math.max(this.without, current - before)]);
    node.setDirtyCanvas?.(true, true);
  }
}

/** Grows the node so that all of it fits, and keeps a width that the user has chosen. */
export function fit(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.setDirtyCanvas?.(true, true);
}

/** Calls `after` whenever the widget's value changes, by hand or by the graph. */
export function onChange(widget, after) {
  const before = widget.callback;
  widget.callback = function (...given) {
    const result = before?.apply(this, given);
    after(widget.value);
    return result;
  };
}

/** The widget called `name`. */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** An HTML element with properties and children. */
export function html(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
