// Which nodes belong to this pack. The scripts change these nodes only, and never nodes of other
// packs or the names, colours and groups of a graph.

/** The pack's node types by full name; a prefix would also match nodes of other packs. */
export const NODES = new Set([
  "OvisCompare",
  "OvisContactSheet",
  "OvisDecode",
  "OvisDenoise",
  "OvisDenoiseAdvanced",
  "OvisEmptyLatent",
  "OvisEncode",
  "OvisKSampler",
  "OvisKSamplerAdvanced",
  "OvisLora",
  "OvisPromptTemplate",
  "OvisVAEDecode",
  "OvisVAEEncode",
  "OvisWorker",
]);

/** Whether the node is one of the pack's. */
export function isOurs(node) {
  return NODES.has(node?.comfyClass);
}
