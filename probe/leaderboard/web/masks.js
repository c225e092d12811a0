/* Masks: which classes are found, which are taken for which by pixels, and the best, the median and the worst image. */
function iouTable(detail, classes) {
  const order = detail.iou.map((_, i) => i).filter((i) => detail.iou[i]).sort((a, b) => detail.iou[a][0] - detail.iou[b][0]);
  const cut = 200, lines = order.slice(0, cut).map((i) => {
    const [value, low, high] = detail.iou[i], bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${100 * value}%`);
    return [classes[i], make("span", { class: "share" }, bar, percent(value)), make("span", { class: "whole" }, `${percent(low)} to ${percent(high)}`), percent(detail.share[i], 2), detail.n[i].toLocaleString("en")];
  });
  const found = make("div", { class: "tall", tabindex: "0", role: "region", "aria-label": "IoU of each class" },
    tableOf("", ["class", "IoU", "95 %", "of the training pixels", "test pixels"], lines));
  return order.length > cut ? [found, make("p", { class: "soft" }, `The ${cut} worst of ${order.length} classes.`)] : [found];
}

function maskDrawings(detail, classes) {
  const found = [];
  if (detail.overlays) found.push([drawing("The best, the median and the worst test image, by its own mIoU", make("img", { src: detail.overlays, class: "overlays", decoding: "async",
    alt: "Three test images, each beside its mask and the prediction, in the colours of the classes below" }))]);
  if (detail.iou) found.push([drawing("IoU of each class, the worst first", ...iouTable(detail, classes))]);
  if (classes.length <= FEW) {
    const box = make("div", { id: "confusion", class: "plot" });
    found.push([drawing(detail.cut ? "Confusion of pixels, its largest entries" : "Confusion of pixels, shares of the true class", box), () => drawConfusion(box, detail, classes)]);
  }
  found.push([drawing("Commonest confusions", confusionTable(detail, classes))]);
  return found;
}
