"""stats while ten clients ask for it all the time."""
import threading
import time

import pytest

def numbers(text):
    found = {}
    for line in text.decode().split("\r\n")[:-2]:
        _, name, value = line.split(" ", 2)
        try:
            found[name] = float(value)
        except ValueError:
            pass
    return found


def fallen(before, now):
    """The names that are smaller now."""
    return [name for name, value in before.items()
            if name.startswith(("cmd_", "get_", "incr_", "decr_", "delete_",
                                "cas_", "touch_", "total_", "bytes_",
                                "rejected_", "listen_disabled_"))
            and now[name] < value]


@pytest.mark.parametrize("argument", [b"", b"servers", b"conns", b"settings"])
def test_stats_of_ten_clients_under_load_are_whole_and_never_go_back(
        stage, pair, argument):
    """At more than 1000 a second, while others write."""
    _, _, proxy = pair
    stop, errors, asked = threading.Event(), [], []

    def poll():
        before, count = {}, 0
        with proxy.client() as client:
            while not stop.is_set():
                client.send(b"stats %s\r\n" % argument)
                now = numbers(client.read_until(b"END\r\n"))
                count += 1
                errors.extend(name for name, value in now.items() if value < 0)
                if argument == b"":
                    errors.extend(fallen(before, now) if before else [])
                before = now
        asked.append(count)

    threads = [threading.Thread(target=poll) for _ in range(10)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    worst = 0
    with proxy.client() as client:
        while time.monotonic() - start < 2:
            then = time.monotonic()
            assert client.talk(b"set k 0 0 1\r\nx\r\nget k\r\n") == (
                b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n")
            worst = max(worst, time.monotonic() - then)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert worst < 1 and sum(asked) > 200
    print("%d in 2 s" % sum(asked))


def test_stats_reset_while_others_ask_makes_no_number_negative(stage, pair):
    _, _, proxy = pair
    stop, errors = threading.Event(), []

    def poll():
        with proxy.client() as client:
            while not stop.is_set():
                client.send(b"stats\r\n")
                now = numbers(client.read_until(b"END\r\n"))
                errors.extend(name for name, value in now.items()
                              if value < 0 or value > 2 ** 63)

    threads = [threading.Thread(target=poll) for _ in range(10)]
    for thread in threads:
        thread.start()
    with proxy.client() as client:
        for i in range(200):
            client.talk(b"set k 0 0 1\r\nx\r\nget k\r\nincr n 1\r\n")
            assert client.ask(b"stats reset\r\n") == b"RESET\r\n"
        client.talk(b"get k\r\n" * 3)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert proxy.stats()["cmd_get"] == "3" and proxy.stats()["cmd_set"] == "0"
