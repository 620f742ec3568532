// A panel on a node: a DOM widget that is not part of the workflow.

/**
 * Adds `element` to the node, `height()` pixels high, or more where it `grows` with the
 * node. Its value is saved nowhere, so graphs with and without this script hold the same
 * widget values.
 */
export function addPanel(node, name, element, height, grows = false) {
  const most = grows ? undefined : height;
  const widget = node.addDOMWidget(name, "ovis_panel", element, {
    serialize: false,
    hideOnZoom: false,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: height,
    getMaxHeight: most,
  });
  widget.serialize = false;
  widget.computeLayoutSize = () => ({ minHeight: height(), maxHeight: most?.(), minWidth: 120 });
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
