// What would stay at another threshold, as the slider moves. Without this the form asks the server the same.
"use strict";
const slider = document.getElementById("slider");
const range = document.getElementById("threshold");
const reasons = [...document.querySelectorAll(".reason")];

function show() {
  const at = Number(range.value);
  let kept = 0;
  for (const reason of reasons) {
    const stays = Number(reason.dataset.score) >= at;
    kept += stays;
    reason.classList.toggle("kept", stays);
    reason.classList.toggle("rejected", !stays);
    reason.querySelector(".verdict").textContent = stays ? "kept" : "rejected";
  }
  document.getElementById("at").value = at.toFixed(2);
  document.getElementById("kept").textContent = `${kept} of ${reasons.length} stay`;
}

slider.querySelector("button").hidden = true;
range.addEventListener("input", show);
range.addEventListener("change", () => {
  const address = new URL(location.href);
  address.searchParams.set("threshold", range.value);
  history.replaceState(null, "", address);
});
