// What a form alone cannot do: the keys 1 to 5, and no rating of a photo unseen.
"use strict";

const form = document.getElementById("rating");
if (form) {
  const photo = document.getElementById("photo");
  const buttons = [...form.querySelectorAll("button")];
  let sent = false;

  document.getElementById("keys").hidden = false;

  const enable = (enabled) => {
    for (const button of buttons) button.disabled = !enabled;
  };

  // The pause keeps the second half of a double click from rating the next photo.
  enable(false);
  photo.decode().then(
    () => setTimeout(enable, 300, true),
    () => (document.getElementById("failure").hidden = false),
  );

  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    // The code is for keyboards whose digits need Shift, as French ones do.
    const digit = /^[1-5]$/.test(event.key) ? event.key : event.code.replace("Digit", "");
    buttons.find((button) => button.value === digit)?.click();
  });

  // A page that the browser kept in memory may show a photo that has been rated.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
