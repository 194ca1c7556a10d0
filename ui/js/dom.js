// A small virtual tree: `h` describes, `patch` changes the page where it differs. Nodes stay what they are between
// ticks, so focus, selection, scrolling and hovering survive.

/** Describes an element. `props`: attributes; `key` pairs children between ticks; `vars` are CSS custom properties
 * (the content security policy forbids style attributes); `true` means present, false/null absent. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((c) => c != null && c !== false) };
}

const SVG = new Set(["svg", "path", "rect", "line", "circle", "g"]);

function create(v) {
  if (typeof v !== "object") return document.createTextNode(String(v));
  const node = SVG.has(v.tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", v.tag)
    : document.createElement(v.tag);
  node.vkey = v.props.key;
  update(node, v);
  return node;
}

function update(node, v) {
  const had = node.vprops ?? {};
  for (const [name, value] of Object.entries(v.props)) {
    if (name === "key" || name === "opaque") continue;
    if (name === "vars") {
      for (const [k, x] of Object.entries(value)) {
        if (had.vars?.[k] !== x) node.style.setProperty(k, x);
      }
    } else if (had[name] !== value) {
      if (value == null || value === false) node.removeAttribute(name);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const name of Object.keys(had)) {
    if (!(name in v.props) && name !== "vars" && name !== "key") node.removeAttribute(name);
  }
  node.vprops = v.props;
  // Somebody else (a plot) owns what is inside.
  if (!v.props.opaque) children(node, v.children);
}

function children(node, wanted) {
  const keyed = new Map();
  for (const child of node.childNodes) if (child.vkey != null) keyed.set(child.vkey, child);
  let at = node.firstChild;
  for (const v of wanted) {
    const isText = typeof v !== "object";
    const key = isText ? undefined : v.props.key;
    let match = key != null ? keyed.get(key) : at;
    const fits = match && (isText
      ? match.nodeType === Node.TEXT_NODE
      : match.nodeType === Node.ELEMENT_NODE && match.localName === v.tag && match.vkey === key);
    if (fits) {
      if (match !== at) node.insertBefore(match, at);
      else at = at.nextSibling;
      if (isText) { if (match.data !== String(v)) match.data = String(v); } else update(match, v);
    } else {
      node.insertBefore(create(v), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Makes the inside of `node` what `tree` (one description or a list) says. */
export function patch(node, tree) {
  children(node, [tree].flat(Infinity).filter((c) => c != null && c !== false));
}
