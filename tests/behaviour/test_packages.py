"""What magent comes in: an archive, a package for Debian, an image of a
container, an example for Kubernetes; and its completion for bash."""
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile

import pytest

from lib.net import free_port, wait_for
from lib.servers import MAGENT, ROOT
from test_options import options_in_help

COMPLETION = ROOT / "scripts" / "magent.bash-completion"
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8",
               "PATH": os.path.dirname(os.path.abspath(MAGENT)) + ":" +
               os.environ["PATH"]}


def said(*command, status=0, **keywords):
    """What a command prints, which must end with this status."""
    if shutil.which(command[0]) is None:
        pytest.skip("%s is not installed" % command[0])
    done = subprocess.run(list(map(str, command)), text=True, timeout=120,
                          capture_output=True, **keywords)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def version():
    return re.search(r"^VERSION = (\S+)$", (ROOT / "Makefile").read_text(),
                     re.M).group(1)


# Completion

def completed(*words):
    """What bash offers in the place of the last word."""
    script = """
        . "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        $(complete -p magent | sed -E 's/.*-F (\\S+) .*/\\1/') "$1"
        printf '%s\\n' "${COMPREPLY[@]}" """
    return said("bash", "-uc", script, "bash", COMPLETION,
                os.path.abspath(MAGENT), *words).split()


def test_each_long_option_of_the_help_is_completed():
    names = {option[-1] for option in options_in_help()}
    assert len(names) > 25
    offered = completed("--")
    assert len(offered) == len(names)
    assert {word.rstrip("=") for word in offered} == names
    for name in names:
        assert name in [word.rstrip("=") for word in completed(name)]


def test_equals_sign_follows_the_options_that_take_an_argument():
    with_argument = re.findall(r"(--[\w-]+=)\w", said(MAGENT, "-h"))
    assert set(with_argument) == {
        word for word in completed("--") if word.endswith("=")}


@pytest.mark.parametrize("words, offered", [
    (["--rin"], ["--ring="]), (["--ring", "k"], ["ketama"]),
    (["--ring", "=", "twem"], ["twemproxy"]),
    (["--on-down", "="], ["miss", "error"]), (["-u", "nobod"], ["nobody"]),
    (["-p", "1"], []), (["-D", "--chec"], ["--check"]), (["x"], [])])
def test_arguments_are_completed_where_they_are_known(words, offered):
    assert completed(*words) == offered


def test_kinds_of_ring_are_those_of_the_help():
    kinds = re.search(r"how keys find servers: (.*?) \(default",
                      " ".join(said(MAGENT, "-h").split())).group(1)
    assert completed("--ring", "") == re.findall(r"\w+", kinds.replace(
        " or ", " "))


def test_paths_are_completed(tmp_path):
    (tmp_path / "cache.conf").write_text("")
    for option in "-c", "--config", "--log-file", "-f":
        assert completed(option, str(tmp_path / "ca")) == [
            str(tmp_path / "cache.conf")]


# The archive

def make_dist(root, path):
    said(root / "scripts" / "dist", "magent-1", path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    place = tmp_path_factory.mktemp("dist")
    make_dist(ROOT, place / "first.tar.gz")
    with tarfile.open(place / "first.tar.gz") as archive:
        archive.extractall(place)
    return place


def test_archive_is_the_same_each_time_also_from_its_own_content(
        unpacked, tmp_path):
    first = (unpacked / "first.tar.gz").read_bytes()
    assert make_dist(ROOT, tmp_path / "second.tar.gz") == first
    other = tmp_path / "magent-1"
    shutil.copytree(unpacked / "magent-1", other, symlinks=True)
    assert make_dist(other, tmp_path / "third.tar.gz") == first


def test_archive_has_nothing_that_was_made(unpacked):
    found = {path.name for path in (unpacked / "magent-1").rglob("*")}
    assert {"magent.c", "rules", "dist", "test_options.py"} <= found
    assert not found & {"magent", "build", "__pycache__", ".git"}


def test_archive_is_built_by_itself(unpacked):
    where = unpacked / "magent-1"
    said("make", "-s", "-j2", "-C", where, "magent", "CFLAGS=-O0",
         env={name: value for name, value in os.environ.items()
              if name not in ("MAKEFLAGS", "CFLAGS")})
    assert said(where / "magent", "-V") == "magent %s\n" % version()


# The package for Debian

def test_versions_are_those_of_the_makefile():
    changelog = (ROOT / "debian" / "changelog").read_text()
    assert changelog.startswith("magent (%s) " % version())
    assert said(MAGENT, "-V") == "magent %s\n" % version()
    assert "image: magent:%s\n" % version() in (
        ROOT / "scripts" / "kubernetes.yaml").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files of the package, as far as make installs them."""
    place = tmp_path_factory.mktemp("package")
    said("make", "-s", "-f", "debian/rules", "override_dh_auto_install",
         "P=%s" % place, cwd=ROOT)
    return place


def test_package_has_what_a_host_needs(package):
    files = {str(path.relative_to(package)) for path in package.rglob("*")
             if path.is_file()}
    assert files == {
        "etc/default/magent", "etc/init.d/magent", "etc/logrotate.d/magent",
        "lib/systemd/system/magent.service",
        "lib/systemd/system/magent.socket",
        "lib/systemd/system/magent@.service", "usr/lib/magent/check-magent",
        "usr/sbin/magent", "usr/share/man/man8/magent.8",
        "usr/share/bash-completion/completions/magent"}


def test_user_of_the_package_is_magent_everywhere(package):
    for name in "magent.service", "magent@.service":
        unit = (package / "lib/systemd/system" / name).read_text()
        assert "DynamicUser" not in unit and "\nUser=magent\n" in unit
    for name, line in (("init.d", "\nMAGENT_USER=magent\n"),
                       ("logrotate.d", " magent adm\n")):
        text = (package / "etc" / name / "magent").read_text()
        assert line in text and "nobody" not in text
    assert re.search(r"adduser --system --group .*\n.* magent$", (
        ROOT / "debian" / "postinst").read_text(), re.M)


@pytest.mark.parametrize("name", ["magent.service", "magent@cache.service"])
def test_units_of_the_package_are_as_closed_as_with_a_dynamic_user(
        package, tmp_path, name):
    unit = package / "lib/systemd/system" / name.replace("cache", "")
    path = tmp_path / name
    path.write_text(unit.read_text().replace("/usr/sbin/magent",
                                             os.path.abspath(MAGENT)))
    assert said("systemd-analyze", "verify", "--man=no", path) == ""
    level = re.search(r"exposure level for \S+: ([\d.]+)", said(
        "systemd-analyze", "security", "--offline=true", "--no-pager", path))
    assert float(level.group(1)) < 2.5


def test_scripts_of_the_packages_pass_shellcheck():
    said("shellcheck", "-s", "bash", COMPLETION)
    said("shellcheck", *(ROOT / "scripts" / name for name in ("deb", "dist")))
    said("shellcheck", "-s", "sh", *(
        ROOT / "debian" / name for name in ("postinst", "postrm", "prerm")))


# The image

def instructions():
    """Those of the last stage of the Containerfile, by name."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", "")
    lines = [line.split(None, 1) for line in text.split("\nFROM ")[-1]
             .splitlines()[1:] if re.match(r"[A-Z]", line)]
    return dict(lines)


def exec_form(text):
    return json.loads(text[text.index("["):])


def here(command, port, **paths):
    """A command line for the tested program, with another port and other
    files."""
    words = [MAGENT if word in ("/usr/sbin/magent", "magent") else
             word.replace("11211", str(port)) for word in command]
    return [str(paths.get("conf", word)) if word.endswith(".conf") else word
            for word in words]


def test_image_runs_magent_as_nobody_and_writes_nothing():
    said_there = instructions()
    assert said_there["USER"] == "65534:65534"
    command = exec_form(said_there["ENTRYPOINT"])
    assert command[:2] == ["/usr/sbin/magent", "-D"]
    assert not {"-P", "--pid-file", "-f", "--log-file"} & set(command)


def test_magent_takes_the_command_lines_of_the_image(stage, tmp_path):
    """Also that of the health check, against the one that was started so."""
    port, conf = free_port(), tmp_path / "magent.conf"
    conf.write_text("server %s\n" % stage.memcached().address)
    there = instructions()
    entry, arguments = (exec_form(there[name])
                        for name in ("ENTRYPOINT", "CMD"))
    example = re.search(r"^# podman run .* magent (-.*)$", (
        ROOT / "Containerfile").read_text(), re.M).group(1)
    said(*here([*entry, *example.split()], port), "--check")
    command = here([*entry, *arguments], port, conf=conf)
    said(*command, "--check")
    check = here(exec_form(there["HEALTHCHECK"]), port)
    said(*check, status=1)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as magent:
        try:
            wait_for(lambda: subprocess.run(
                check, stdout=subprocess.DEVNULL).returncode == 0, "health")
        finally:
            magent.terminate()
        assert magent.wait(30) == 0


# Kubernetes

@pytest.fixture(scope="module")
def objects():
    """Those of the example, by kind and name."""
    yaml = pytest.importorskip("yaml")
    found = {}
    for one in yaml.safe_load_all(
            (ROOT / "scripts" / "kubernetes.yaml").read_text()):
        name = one["kind"], one["metadata"]["name"]
        assert name not in found
        found[name] = one
    return found


def faults_of(objects):
    """What the schemas of Kubernetes have against these objects; scripts/test
    has put them there, or NODE_PATH says where they are."""
    path = os.environ.get("NODE_PATH") or str(ROOT / "build-npm/node_modules")
    if not os.path.exists(path + "/kubernetes-models"):
        pytest.skip("kubernetes-models is not installed")
    return said("node", ROOT / "tests/tools/kubernetes.js",
                input=json.dumps(objects),
                env={**os.environ, "NODE_PATH": path}).splitlines()


def test_example_has_no_fault_for_the_schemas_of_kubernetes(objects):
    assert faults_of(list(objects.values())) == []


def test_schemas_find_a_wrong_type_and_an_unknown_field(objects):
    wrong = copy.deepcopy(objects["Deployment", "magent"])
    wrong["spec"]["replicas"] = "one"
    pod({(0, 0): wrong}, 0, 0)[1]["livenessProbes"] = {}
    assert faults_of([wrong]) == [
        "Deployment magent: data/spec/replicas must be integer",
        "Deployment magent: /spec/template/spec/containers/0/livenessProbes: "
        "unknown"]


def pod(objects, kind, name):
    """Its pod, and the only container of that."""
    spec = objects[kind, name]["spec"]["template"]["spec"]
    container, = spec["containers"]
    return spec, container


@pytest.fixture
def configured(objects, tmp_path):
    """The options of the example in a file."""
    _, container = pod(objects, "Deployment", "magent")
    mount, = container["volumeMounts"]
    path = container["args"][container["args"].index("-c") + 1]
    folder, name = os.path.split(path)
    assert folder == mount["mountPath"]
    (tmp_path / name).write_text(objects["ConfigMap", "magent"]["data"][name])
    return tmp_path / name


def test_magent_takes_the_options_of_the_example(objects, configured):
    _, container = pod(objects, "Deployment", "magent")
    entry = exec_form(instructions()["ENTRYPOINT"])
    said(*here([*entry, *container["args"]], free_port(), conf=configured),
         "--check")
    text = (ROOT / "scripts" / "kubernetes.yaml").read_text()
    example = re.search(r"-- (magent .* --check)$", text, re.M).group(1)
    said(*here(example.split(), free_port(), conf=configured))


def test_servers_of_the_example_are_the_pods_of_its_set(objects, configured):
    pods = objects["StatefulSet", "memcached"]["spec"]
    headless = objects["Service", pods["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None"
    servers = re.findall(r"^(?:server|backup) (\S+)$", configured.read_text(),
                         re.M)
    assert servers == ["memcached-%d.%s" % (i, pods["serviceName"])
                       for i in range(pods["replicas"])]


def test_selectors_and_ports_of_the_example_fit(objects):
    labels = {name: one["spec"]["template"]["metadata"]["labels"]
              for (kind, name), one in objects.items()
              if kind in ("StatefulSet", "Deployment")}
    for (kind, name), one in objects.items():
        selector = one.get("spec", {}).get("selector")
        if selector is not None:
            assert selector.get("matchLabels", selector) == labels[name]
    for kind, name in ("StatefulSet", "memcached"), ("Deployment", "magent"):
        _, container = pod(objects, kind, name)
        assert container["ports"] == [
            {"name": "memcached", "containerPort": 11211}]
        assert container["readinessProbe"]["tcpSocket"]["port"] == "memcached"
        port, = objects["Service", name]["spec"]["ports"]
        assert port["port"] == 11211
        assert port.get("targetPort", 11211) in ("memcached", 11211)


def test_pod_has_time_for_the_shutdown_delay(objects, configured):
    """5 seconds to finish come behind it."""
    delay = int(re.search(r"^shutdown-delay (\d+)$", configured.read_text(),
                          re.M).group(1))
    spec, _ = pod(objects, "Deployment", "magent")
    assert spec["terminationGracePeriodSeconds"] >= delay + 5 + 5
    assert objects["Deployment", "magent"]["spec"]["replicas"] == 1
    assert objects["Deployment", "magent"]["spec"]["strategy"] == {
        "type": "Recreate"}


def test_pods_of_the_example_are_nobody_and_write_nothing(objects):
    for kind, name in ("StatefulSet", "memcached"), ("Deployment", "magent"):
        context = pod(objects, kind, name)[1]["securityContext"]
        assert context == {
            "runAsNonRoot": True, "runAsUser": 65534,
            "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}}


def test_liveness_of_the_example_fails_when_magent_hangs_only(stage, objects):
    probe = pod(objects, "Deployment", "magent")[1]["livenessProbe"]
    assert probe["timeoutSeconds"] > 3
    server = stage.memcached()
    magent = stage.magent([server])
    command = [word.replace("11211", str(magent.port)).replace("3000", "300")
               for word in probe["exec"]["command"]]
    assert shlex.split(command[-1])[1] == "magent"
    command[-1] = command[-1].replace("magent", shlex.quote(
        os.path.abspath(MAGENT)), 1)

    def lives():
        return subprocess.run(command, timeout=30, text=True,
                              stdout=subprocess.PIPE).returncode == 0
    assert lives()
    server.kill()
    wait_for(lambda: magent.stats("servers")["0:state"] == "down",
             "the failure")
    assert lives()
    magent.stop()
    assert not lives()
    magent.cont()
    wait_for(lives, "magent to go on")
