"""libmemcached's conformance suite."""
import subprocess


def test_memccapable_passes_its_27_tests(stage):
    proxy = stage.magent(stage.memcacheds(2), stage.memcacheds(1))
    done = subprocess.run(
        ["memccapable", "-a", "-h", "127.0.0.1", "-p", str(proxy.port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    output = done.stdout.decode()
    assert done.returncode == 0, output
    assert output.count("[pass]") == 27, output
