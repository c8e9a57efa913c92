"""What Gradio's components lack for screen readers and keyboards, added in the browser as they appear.

Files are pasted by Ctrl+V into the upload that is shown; Gradio's own button needs HTTPS.
"""

FIXES = """<script>
(() => {
    const all = selector => document.querySelectorAll(selector);
    const name = (part, text) => { if (part.ariaLabel !== text) part.ariaLabel = text; };
    const fix = () => {
        // a name must contain the text that is shown: the caption, or where to drop files
        for (const part of all(".thumbnail-item[aria-label], .upload-container[aria-label]"))
            if (part.innerText.trim()) part.removeAttribute("aria-label");
        for (const part of all("button:has(> .image-frame)")) name(part, "Photo");
        for (const part of all("input.search-input")) name(part, "Filter the table");
        for (const part of all("[title='common.upload']")) { part.title = "Upload"; name(part, "Upload"); }
        for (const part of all(".cm-scroller")) if (part.tabIndex !== 0) part.tabIndex = 0;
        for (const inner of all(".icon-button .upload-container:not([inert])")) {  // a button within a button
            inner.inert = true;
            const outer = inner.closest(".icon-button");
            outer.addEventListener("click", event => { if (!inner.contains(event.target)) inner.click(); });
        }
    };
    document.addEventListener("paste", event => {
        const shown = input => input.closest("button, .icon-button")?.checkVisibility();
        const input = [...all("input[type=file]")].find(shown);
        if (!input || !event.clipboardData.files.length) return;
        input.files = event.clipboardData.files;
        input.dispatchEvent(new Event("change", {bubbles: true}));
    });
    new MutationObserver(fix).observe(document, {childList: true, subtree: true, attributeFilter: ["aria-label"]});
})();
</script>"""
