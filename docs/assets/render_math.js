// Render the formulas that pymdownx.arithmatex marks: \(...\) in <span class="arithmatex">, \[...\] in <div class="arithmatex">.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const source = element.textContent.trim();
    const displayMode = source.startsWith("\\[");
    katex.render(source.slice(2, -2), element, { displayMode, throwOnError: false });
  }
});
