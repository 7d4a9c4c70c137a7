// Controls and landmarks without a name.
() => {
    const name = (element) => {
        const by = element.getAttribute("aria-labelledby");
        if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
        return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
    };
    const controls = "button, input, select, textarea, a[href], [role=img], [role=region], [role=group], " +
        "[role=toolbar], dialog, nav, main, [tabindex='0']";
    return [...document.querySelectorAll(controls)].filter((each) => !name(each)?.trim()).map((each) => each.outerHTML);
}
