// Only what pages cannot do without a script: following decisions live, and a form that shows its
// faults as one types. Everything else works without it.
(() => {
  const place = document.querySelector("[data-tail]");
  if (place && window.EventSource) {
    const button = place.querySelector("[data-tail-button]");
    const state = place.querySelector("[data-tail-state]");
    const body = document.querySelector("#decisions tbody");
    let source = null;
    const cell = (row, text, name, href) => {
      const td = document.createElement("td");
      if (name) td.className = name;
      if (href) {
        const a = document.createElement("a");
        a.href = href;
        a.textContent = text;
        td.append(a);
      } else {
        td.textContent = text;
      }
      row.append(td);
    };
    const stop = () => {
      if (source) source.close();
      source = null;
      button.textContent = "Follow live";
      state.textContent = "";
    };
    const start = () => {
      source = new EventSource(place.dataset.tail);
      button.textContent = "Stop";
      state.textContent = "Following: new decisions come in at the top.";
      source.addEventListener("decision", (event) => {
        const record = JSON.parse(event.data).record;
        const row = document.createElement("tr");
        const refused = record.verdict === "refuse";
        cell(row, record.time || "");
        cell(row, record.id, "mono", "/decisions/" + encodeURIComponent(record.id));
        cell(row, record.method + " " + (record.resource || record.path || ""));
        cell(row, record.api || "");
        cell(row, record.client || record.claimed_client || "");
        cell(row, refused ? record.reason || "refused" : "permit", refused ? "bad" : "good");
        cell(row, String(record.status), "number");
        body.prepend(row);
        while (body.rows.length > 200) body.deleteRow(-1);
      });
      source.onerror = () => {
        state.textContent = "The connection ended; it is tried again.";
      };
    };
    button.hidden = false;
    button.addEventListener("click", () => (source ? stop() : start()));
  }
  for (const form of document.querySelectorAll("form[data-live]")) {
    form.addEventListener("input", (event) => {
      const field = event.target;
      if (field.willValidate) field.setAttribute("aria-invalid", String(!field.checkValidity()));
    });
  }
})();
