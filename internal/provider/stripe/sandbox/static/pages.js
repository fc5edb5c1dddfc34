// Comfort for the hosted pages; everything works without it.
(function () {
  "use strict";

  // Groups the digits as they stand on the card (4-4-4-4, American Express 4-6-5) and keeps the caret after the
  // same digit, so that a correction in the middle of the number does not jump to its end.
  function reshape(input, shape) {
    var before = input.value.slice(0, input.selectionStart).replace(/\D/g, "").length;
    var shaped = shape(input.value.replace(/\D/g, ""));
    if (shaped === input.value) { return; }
    input.value = shaped;
    var at = 0;
    for (var seen = 0; at < shaped.length && seen < before; at++) {
      if (/\d/.test(shaped[at])) { seen++; }
    }
    if (before >= shaped.replace(/\D/g, "").length) { at = shaped.length; }
    input.setSelectionRange(at, at);
  }

  function shapeNumber(digits) {
    if (/^3[47]/.test(digits)) {
      return digits.slice(0, 15).replace(/^(\d{4})(\d{1,6})?(\d{1,5})?$/, function (_, a, b, c) {
        return [a, b, c].filter(Boolean).join(" ");
      });
    }
    return digits.slice(0, 19).replace(/(\d{4})(?=\d)/g, "$1 ");
  }

  function shapeExpiry(digits) {
    if (/^[2-9]/.test(digits)) { digits = "0" + digits; }
    // 12/2034 may be pasted or filled in by the browser: only the last two digits of the year count.
    if (digits.length === 6) { digits = digits.slice(0, 2) + digits.slice(4); }
    digits = digits.slice(0, 4);
    return digits.length > 2 ? digits.slice(0, 2) + " / " + digits.slice(2) : digits;
  }

  function clearError(input) {
    if (!input.hasAttribute("aria-invalid")) { return; }
    input.removeAttribute("aria-invalid");
    var error = document.getElementById(input.id + "-error");
    if (error) { error.remove(); }
  }

  function setBusy(button, busy) {
    var label = button.querySelector(".label");
    if (busy) {
      button.setAttribute("aria-busy", "true");
      button.dataset.label = label.textContent;
      label.textContent = button.dataset.busy;
    } else if (button.hasAttribute("aria-busy")) {
      button.removeAttribute("aria-busy");
      label.textContent = button.dataset.label;
    }
  }

  // A second click while the first is on its way is dropped. The buttons are not disabled: a disabled button would
  // not be sent with its form, and the server treats a second submission as harmless anyway.
  document.querySelectorAll("form").forEach(function (form) {
    form.addEventListener("submit", function (event) {
      if (form.dataset.sent) { event.preventDefault(); return; }
      form.dataset.sent = "yes";
      setBusy(event.submitter || form.querySelector("button[type=submit]"), true);
    });
  });
  // The browser may bring the page back as it was left ("back" button): make it usable again.
  window.addEventListener("pageshow", function () {
    document.querySelectorAll("form").forEach(function (form) {
      delete form.dataset.sent;
      form.querySelectorAll("button").forEach(function (button) { setBusy(button, false); });
    });
  });

  var form = document.querySelector("[data-card-form]");
  if (!form) { return; }
  var number = form.elements.cardNumber, expiry = form.elements.cardExpiry, cvc = form.elements.cardCvc, name = form.elements.billingName;

  number.addEventListener("input", function () { reshape(number, shapeNumber); });
  expiry.addEventListener("input", function (event) {
    // While deleting, the separator must be deletable too.
    if (event.inputType && event.inputType.indexOf("delete") === 0) { return; }
    // "1/27" means January, not the beginning of December.
    if (/^\s*[1-9]\s*\//.test(expiry.value)) { expiry.value = "0" + expiry.value.trim(); }
    reshape(expiry, shapeExpiry);
  });
  cvc.addEventListener("input", function () { reshape(cvc, function (digits) { return digits.slice(0, 4); }); });
  [number, expiry, cvc, name].forEach(function (input) {
    input.addEventListener("input", function () { clearError(input); });
  });

  document.querySelectorAll("a.testcard").forEach(function (card) {
    card.addEventListener("click", function (event) {
      if (event.metaKey || event.ctrlKey || event.shiftKey) { return; }
      event.preventDefault();
      number.value = card.dataset.number;
      expiry.value = card.dataset.expiry;
      cvc.value = card.dataset.cvc;
      if (!name.value) { name.value = card.dataset.name; }
      [number, expiry, cvc, name].forEach(clearError);
      var alert = document.getElementById("alert");
      if (alert) { alert.remove(); }
      document.querySelectorAll("a.testcard[aria-current]").forEach(function (other) { other.removeAttribute("aria-current"); });
      card.setAttribute("aria-current", "true");
      form.querySelector("button[type=submit]").focus();
    });
  });
})();
