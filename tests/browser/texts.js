// Every text that is seen on the page, with its contrast to its ground and the size of its letters in pixels.
// Opacity of the text's ancestors counts; a ground that is a picture or a gradient cannot be judged, and such a text is left out.
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parsed = new Map();
  const rgba = (css) => {
    if (!parsed.has(css)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = css;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      parsed.set(css, [r, g, b, a / 255]);
    }
    return parsed.get(css);
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((value, at) => value * a + under[at] * (1 - a));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const ancestors = (element) => {
    const chain = [];
    for (let at = element; at; at = at.parentElement || at.getRootNode().host) chain.push(at);
    return chain;
  };
  const disabled = "[disabled], [aria-disabled=true], [disabled] *, [aria-disabled=true] *";
  const texts = [];
  const visit = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.shadowRoot) visit(node.shadowRoot);
      const text = node.nodeType === Node.TEXT_NODE ? node.textContent.trim() : "";
      if (text) judge(node, text);
    }
  };
  const judge = (node, text) => {
    const element = node.parentElement || node.getRootNode().host;
    if (!element || element.closest("style, script, noscript, title, .katex-mathml, .katex .size1")) return;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), style = getComputedStyle(element), size = parseFloat(style.fontSize);
    if (box.width < 2 || box.height < 2 || style.visibility !== "visible" || element.matches(disabled) || !element.checkVisibility()) return;
    if (/Material/.test(style.fontFamily)) return;  // an icon
    const chain = ancestors(element);
    const opacity = chain.reduce((product, at) => product * parseFloat(getComputedStyle(at).opacity), 1);
    if (opacity === 0) return;
    const behind = chain.filter((at) => {  // a slider's number stands beside the thumb that holds it
      const {left, right, top, bottom, width, height} = at.getBoundingClientRect();
      const x = box.left + box.width / 2, y = box.top + box.height / 2;
      return (left <= x && x <= right && top <= y && y <= bottom) || width * height > 20 * box.width * box.height;
    });
    const layers = behind.slice(0, behind.findIndex((at) => rgba(getComputedStyle(at).backgroundColor)[3] === 1) + 1);
    if (layers.some((at) => getComputedStyle(at).backgroundImage !== "none")) return;
    const ground = layers.reverse().reduce((under, at) => over(rgba(getComputedStyle(at).backgroundColor), under), [255, 255, 255]);
    const [r, g, b, a] = rgba(element.closest("svg") ? style.fill : style.color);
    const colour = over([r, g, b, a * opacity * parseFloat(element.closest("svg") ? style.fillOpacity : 1)], ground);
    const where = chain.slice(0, 6).map((at) => at.dataset?.testid || at.getAttribute("class") || at.tagName).join(" < ");
    texts.push({text, size, ratio: ratio(colour, ground), colour: colour.map(Math.round), ground: ground.map(Math.round), where: where.slice(0, 160)});
  };
  visit(document.body);
  return texts;
}
