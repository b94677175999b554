// Filters the test rows. Without this script the page shows every row, so nothing here adds content.
// The state (#rows?outcome=loss&slice=queue%3Dbilling&q=text) is in the address, so a view can be sent on.
(() => {
  "use strict";
  const PAGE = 50;
  const form = document.getElementById("row-filter");
  if (!form) return;
  const said = document.getElementById("row-count");
  const { outcome, slice, q } = form.elements;
  const groups = [...document.querySelectorAll("#rows .group")].map((box) => ({
    box,
    outcome: box.dataset.outcome,
    told: box.querySelector(".shown"),
    more: box.querySelector(".more"),
    limit: PAGE,
    rows: [...box.querySelectorAll(".row")].map((card) => ({
      card,
      slices: (card.dataset.slices || "").split(" "),
      text: card.textContent.toLowerCase(),
    })),
  }));

  function matches(row, wanted, words) {
    return (!wanted || row.slices.includes(wanted)) && words.every((word) => row.text.includes(word));
  }

  function show() {
    const chosen = slice.selectedOptions[0];
    const wanted = chosen && chosen.dataset.id;
    const words = q.value.toLowerCase().split(/\s+/).filter(Boolean);
    let total = 0;
    for (const group of groups) {
      let found = 0;
      const open = !outcome.value || outcome.value === group.outcome;
      for (const row of group.rows) {
        const hit = open && matches(row, wanted, words);
        if (hit) found += 1;
        row.card.hidden = !hit || found > group.limit;
      }
      const left = Math.max(0, found - group.limit);
      group.box.hidden = found === 0;
      if (outcome.value || wanted || words.length) group.box.open = true;
      group.told.textContent = found === group.rows.length ? "" : `, ${found.toLocaleString("en")} match`;
      group.more.hidden = left === 0;
      group.more.textContent = `Show ${Math.min(PAGE, left)} more of ${left.toLocaleString("en")}`;
      total += found;
    }
    said.textContent = total === 1 ? "1 row matches" : `${total.toLocaleString("en")} rows match`;
  }

  function remember() {
    const state = new URLSearchParams();
    for (const field of [outcome, slice, q]) if (field.value) state.set(field.name, field.value);
    const query = state.toString();
    history.replaceState(null, "", query ? `#rows?${query}` : "#rows");
  }

  function restart() {
    for (const group of groups) group.limit = PAGE;
    show();
  }

  function recall() {
    const hash = location.hash;
    if (hash.startsWith("#rows?")) {
      const state = new URLSearchParams(hash.slice(6));
      for (const field of [outcome, slice, q]) field.value = state.get(field.name) || "";
      restart();
      document.getElementById("rows").scrollIntoView();
    } else if (/^#row-\d+$/.test(hash)) {
      const card = document.getElementById(hash.slice(1));
      if (!card) return;
      card.hidden = false;
      card.closest(".group").hidden = false;
      card.closest(".group").open = true;
      card.scrollIntoView({ block: "center" });
    }
  }

  form.addEventListener("input", () => { remember(); restart(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { remember(); restart(); }));
  for (const group of groups) {
    group.more.addEventListener("click", () => { group.limit += PAGE; show(); });
  }

  // Browsers that cannot open <details> by a print style get them opened here.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const box of closed) box.open = true;
  });
  addEventListener("afterprint", () => { for (const box of closed) box.open = false; });
  addEventListener("hashchange", recall);

  form.hidden = false;
  show();
  recall();
})();
