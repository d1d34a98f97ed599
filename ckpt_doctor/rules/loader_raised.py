"""CKD002."""

from __future__ import annotations

from ckpt_doctor.core.findings import Finding, Severity

from ._kit.load_rule import LoadRule


class LoaderRaised(LoadRule):
    """The loader ended with an exception.

    ## What it does
    Reports the message, the file that it wanted, and the line of the loader's own code where it happened. A call of
    `sys.exit` counts as one.

    ## Why is this bad?
    The evaluation would end in the same way, usually after the base model has been loaded.

    ## Example
    The checkpoint holds `adapter_model.bin`, and the loader opens `adapter_model.safetensors` by name:
    `FileNotFoundError`.

    ## What to do
    `ckpt-doctor inspect` lists the files and their formats; `ckpt-doctor convert` writes the other one."""

    code = "CKD002"
    name = "loader-raised"
    severity = Severity.ERROR

    def report(self, loader: str, failure: str, place: str = "", wanted_file: str | None = None) -> Finding:
        """``failure`` is the exception in words, or how the process ended (``it called ...``, ``its process ...``).

        ``place`` is the line of the user's code, and ``wanted_file`` what was not there.
        """
        left = failure.startswith(("it called ", "its process "))
        message = f"{loader} did not return: {failure}" if left else f"{loader} ended with {failure.rstrip('.')}"
        message += f", at {place}." if place else "."
        return self.finding(message, evidence={"error": failure, "place": place, "file": wanted_file})
