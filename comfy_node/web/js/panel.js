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
