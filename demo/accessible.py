"""Accessibility fixes for Gradio's components (screen readers, keyboards), applied in the browser as they appear.

Ctrl+V pastes files into the upload that is shown; Gradio's own button needs HTTPS. In an opened photo, the wheel zooms
in on what is below the pointer, and the keys + and - on the middle.
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
        for (const part of all(".cm-scroller, .header-cell .cell-menu-button"))
            if (part.tabIndex !== 0) part.tabIndex = 0;
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
    const opened = "img[data-testid=detailed-image]", zoomed = new WeakMap();
    const zoom = (photo, x, y, times) => {  // x, y: the point that stays where it is, in pixels of the unscaled photo
        const [scale, left, top] = zoomed.get(photo) ?? [1, 0, 0], next = Math.min(10, Math.max(1, scale * times));
        const moved = next === 1 ? [0, 0] : [left + (scale - next) * x, top + (scale - next) * y];
        zoomed.set(photo, [next, ...moved]);
        photo.style.transformOrigin = "0 0";
        photo.style.transform = `translate(${moved[0]}px, ${moved[1]}px) scale(${next})`;
    };
    document.addEventListener("wheel", event => {
        if (!event.target.matches(opened)) return;
        event.preventDefault();
        zoom(event.target, event.offsetX, event.offsetY, event.deltaY < 0 ? 1.25 : 0.8);
    }, {passive: false});
    document.addEventListener("keydown", event => {
        const photo = document.querySelector(opened), times = {"+": 1.25, "-": 0.8}[event.key];
        if (photo && times && !event.target.matches("input, textarea"))
            zoom(photo, photo.clientWidth / 2, photo.clientHeight / 2, times);
    });
    document.addEventListener("load", event => {  // another photo
        if (!event.target.matches?.(opened)) return;
        zoomed.delete(event.target);
        event.target.style.transform = "";
    }, true);
    new MutationObserver(fix).observe(document, {childList: true, subtree: true, attributeFilter: ["aria-label"]});
})();
</script>"""
