// Panels on nodes: DOM widgets whose values are not saved in the workflow.

const GAP = 4; // pixels that the canvas adds below every widget with computeSize

/**
 * Adds `element` to the node. It is `height()` pixels high, or at least that if it `grows` with
 * the node. It has no saved value, so that a workflow's widget values do not depend on whether
 * this script is present.
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
    // Nodes 2.0 distributes a node's spare height over the widgets that have a layout. A widget
    // without one is as high as its content.
    widget.computeLayoutSize = undefined;
    widget.computeSize = (width) => [width, height() - GAP];
  }
  return widget;
}

const MARGINS = 24; // pixels: ComfyUI's margins above and below a DOM widget, plus padding

/** A panel that is as high as its lines and takes no space when it has none. */
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

  /** Replaces the lines by these elements. */
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
   * Fits the node's height to the lines, which wrap differently when the width changes. Must be
   * called repeatedly, because elements outside the visible area have no height.
   */
  measure() {
    const lines = this.list.childElementCount;
    if (lines && !this.list.offsetHeight) return;
    const height = lines ? this.list.offsetHeight + MARGINS : 0;
    if (height === this.height) return;
    const { node, height: before } = this;
    this.height = height;
    if (!before) this.heightWithout = node.size[1];
    if (height < before) {
      // Also where lines remain: an element that is just being laid out can be very high.
      const [width, current] = node.size;
      node.setSize([width, Math.max(this.heightWithout, current - before + height)]);
      node.setDirtyCanvas?.(true, true);
    }
    if (height) fit(node);
  }
}

/** Enlarges the node to fit its contents; it never shrinks a size that the user chose. */
export function fit(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.setDirtyCanvas?.(true, true);
}

/** Calls `after(value)` whenever the user or the graph changes the widget's value. */
export function onChange(widget, after) {
  const before = widget.callback;
  widget.callback = function (...args) {
    const result = before?.apply(this, args);
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
