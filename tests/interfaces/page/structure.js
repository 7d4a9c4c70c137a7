// What is wrong with the page's structure: ids, references, landmarks, nesting.
() => {
    const wrong = [];
    const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`id ${id} twice`);
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
        for (const each of document.querySelectorAll(`[${attribute}]`)) {
            for (const id of each.getAttribute(attribute).split(" ")) {
                if (!document.getElementById(id)) wrong.push(`${attribute} ${id}`);
            }
        }
    }
    if (document.documentElement.lang !== "en") wrong.push("lang");
    if (document.querySelectorAll("main").length !== 1) wrong.push("main");
    if (document.querySelectorAll("h1").length !== 1) wrong.push("h1");
    for (const each of document.querySelectorAll("[tabindex]")) if (each.tabIndex > 0) wrong.push("tabindex");
    for (const each of document.querySelectorAll("button button, a button, button a")) wrong.push("nested controls");
    for (const each of document.querySelectorAll("ul > :not(li), ol > :not(li)")) wrong.push("list");
    if (document.querySelector("[aria-hidden=true] :is(button, input, a)")) wrong.push("hidden but focusable");
    return wrong;
}
