// Which nodes belong to this pack. Every script here writes to these alone: nodes of other
// packs, and the names, colours and groups of a graph, are their authors'.

/** The pack's node types, each by its whole name: other packs' names begin as ours do. */
export const NODES = new Set([
  "OvisCompare",
  "OvisContactSheet",
  "OvisDecode",
  "OvisDenoise",
  "OvisDenoiseAdvanced",
  "OvisEmptyLatent",
  "OvisEncode",
  "OvisPromptTemplate",
  "OvisVAEEncode",
  "OvisWorker",
]);

/** Whether the node is one of the pack's. */
export function isOurs(node) {
  return NODES.has(node?.comfyClass);
}
