// Keeping the end in sight while a reply grows, unless somebody has scrolled up or does something else there.

const NEAR = 60; // pixels

/**
 * @param {HTMLElement} scroll  what scrolls  @param {HTMLElement} content  what grows in it
 * @returns {() => void} goes to the end and follows it from then on
 */
export function followEnd(scroll, content) {
  let follow = false, before = 0;
  scroll.addEventListener("scroll", () => {
    const near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
    if (scroll.scrollTop < before) follow = false; // only a person scrolls up
    else if (near && scroll.scrollTop > before) follow = true;
    before = scroll.scrollTop;
  });
  for (const kind of ["pointerdown", "focusin"]) content.addEventListener(kind, () => { follow = false; });
  const go = () => { scroll.scrollTop = scroll.scrollHeight; };
  new ResizeObserver(() => { if (follow) go(); }).observe(content);
  return () => { follow = true; go(); };
}
