// Elements and attributes of the page that could run or load something.
() => {
    const found = [];
    for (const element of document.querySelectorAll("#column *, #sidebar *, dialog *, #toast *, #popover *")) {
        const name = element.localName;
        if (["script", "iframe", "object", "embed", "style", "base", "meta", "link", "audio", "video"].includes(name)) {
            found.push(name);
        }
        if (name === "img" && new URL(element.src).pathname !== "/icon.svg") found.push(element.src);
        for (const { name: attribute, value } of element.attributes) {
            if (attribute.startsWith("on") || attribute === "srcdoc" || attribute === "formaction") found.push(attribute);
            if (attribute === "href" && !/^(https?:|mailto:|#)/.test(value)) found.push(value);
        }
    }
    return found;
}
