"""Conversations written down as text."""
import textwrap

NAMES = {"K250": "k" * 250, "K251": "k" * 251,
         "O30": "o" * 30, "O32": "o" * 32}


def steps(text):
    """The (request, reply) pairs of a transcript, as bytes.

    Lines behind ">" are sent, those that follow are the reply; every line ends
    in CRLF.  {K250} and the like stand for long words.
    """
    found = []
    for line in textwrap.dedent(text).strip("\n").split("\n"):
        for name, word in NAMES.items():
            line = line.replace("{%s}" % name, word)
        data = line.lstrip(">").encode("latin-1") + b"\r\n"
        if line.startswith(">") and (not found or found[-1][1]):
            found.append([b"", b""])
        if line.startswith(">"):
            found[-1][0] += data
        else:
            found[-1][1] += data
    return found
