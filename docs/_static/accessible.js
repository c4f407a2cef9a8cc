// Small repairs of the theme's pages, as axe-core asks for them.
document.addEventListener("DOMContentLoaded", () => {
  // The captions of the navigation are headings, which need a level.
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
  // Code that is wider than the page can be scrolled, also with the keyboard.
  for (const block of document.querySelectorAll("pre, .table-wrapper")) {
    if (block.scrollWidth > block.clientWidth) block.setAttribute("tabindex", "0");
  }
});
