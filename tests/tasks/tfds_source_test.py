"""Examples of prepared TFDS data sets; nothing is downloaded here."""

import time
import urllib.error
import urllib.request

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_pof.tasks import tfds_source

TEXTS = [f"Text {i}, ünïcode." for i in range(7)]


def _split(texts):
    return tf.data.Dataset.from_tensor_slices(
        {"text": texts, "number": list(range(len(texts)))}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    tfds.dataset_builders.store_as_tfds_dataset(
        name="plain",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"text": tfds.features.Text(), "number": tf.int32}
        ),
        split_datasets={"train": _split(TEXTS), "test": _split(TEXTS[:2])},
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


def test_reads_a_split_in_the_order_of_its_files(folder):
    found = tfds_source.examples("plain", "train", folder)
    assert [e["text"].decode() for e in found] == TEXTS
    assert [e["number"] for e in found] == list(range(7))
    assert len(tfds_source.examples("plain:1.0.0", "test", folder)) == 2


def test_a_prepared_data_set_needs_no_download(folder, monkeypatch):
    monkeypatch.setattr(tfds, "builder", None)
    found = tfds_source.examples("plain", "test", folder, download=True)
    assert len(found) == 2


def test_names_the_splits_there_are(folder):
    with pytest.raises(
        ValueError, match='plain has no .* "dev": choose test or train.$'
    ):
        tfds_source.examples("plain", "dev", folder)


def test_says_at_once_where_it_looked_and_the_ways_out(tmp_path):
    began = time.monotonic()
    with pytest.raises(
        ValueError,
        match=f"glue/sst2 is not prepared in {tmp_path}: .*--tfds_data_dir"
        ".*--download.*--raw_dir",
    ):
        tfds_source.examples("glue/sst2", "train", str(tmp_path))
    assert time.monotonic() - began < 30


class _Downloaded:
    """Stands for the builder of a data set that is on the network."""

    url_infos = {}

    def __init__(self, name, data_dir):
        assert (name, data_dir) == ("remote", self.folder)

    def download_and_prepare(self):
        if self.error:
            raise self.error
        tfds.dataset_builders.store_as_tfds_dataset(
            name="remote",
            version="1.0.0",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            split_datasets={
                "train": tf.data.Dataset.from_tensor_slices({"text": TEXTS})
            },
            data_dir=self.folder,
        )
        self.prepared = tfds.builder_from_directory(
            f"{self.folder}/remote/1.0.0"
        )

    def __getattr__(self, name):
        return getattr(self.prepared, name)


@pytest.mark.parametrize(
    "error",
    [
        None,
        ConnectionError("no\nroute"),
        tfds.download.DownloadError("no route"),
    ],
)
def test_downloads_only_when_asked_to(tmp_path, monkeypatch, error):
    _Downloaded.folder, _Downloaded.error = str(tmp_path), error
    monkeypatch.setattr(tfds, "builder", _Downloaded)
    with pytest.raises(ValueError, match="--download"):
        tfds_source.examples("remote", "train", str(tmp_path))
    if error is None:
        found = tfds_source.examples(
            "remote", "train", str(tmp_path), download=True
        )
        assert sorted(e["text"].decode() for e in found) == sorted(TEXTS)
    else:
        with pytest.raises(OSError, match=r"downloaded to .* \(no route\): "):
            tfds_source.examples(
                "remote", "train", str(tmp_path), download=True
            )


URLS = ("https://b.example/x/1.zip", "https://a.example/2.zip", "file:///3")


def _network(monkeypatch, answers):
    """Lets servers answer with what is given; returns who was asked."""
    asked = []

    def answer(request, timeout):
        assert request.get_method() == "HEAD" and timeout <= 5
        asked.append(request.full_url)
        raise answers[request.full_url]

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def test_without_a_network_it_is_said_at_once(tmp_path, monkeypatch):
    gone = urllib.error.URLError("no such host")
    answers = {"https://a.example": gone, "https://b.example": TimeoutError()}
    asked = _network(monkeypatch, answers)
    with pytest.raises(OSError, match="https://b.example cannot be reached"):
        tfds_source._require_network(URLS, str(tmp_path))
    assert asked == ["https://a.example", "https://b.example"]


def test_a_server_that_answers_anything_is_there(tmp_path, monkeypatch):
    refused = urllib.error.HTTPError("https://a.example", 403, "no", {}, None)
    asked = _network(monkeypatch, {"https://a.example": refused})
    tfds_source._require_network(URLS, str(tmp_path))
    assert asked == ["https://a.example"]


def test_what_was_downloaded_before_needs_no_network(tmp_path, monkeypatch):
    asked = _network(monkeypatch, {})
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/1.zip").touch()
    tfds_source._require_network(URLS, str(tmp_path))
    tfds_source._require_network((), str(tmp_path / "other"))
    assert asked == []


def test_a_real_data_set_s_servers_are_asked(tmp_path, monkeypatch):
    gone = urllib.error.URLError("no\nroute")

    class Answers(dict):
        def __missing__(self, url):
            return gone

    asked = _network(monkeypatch, Answers())
    with pytest.raises(
        OSError, match="squad/v1.1 could not be downloaded .*no route.*--raw"
    ):
        tfds_source.examples("squad/v1.1", "train", str(tmp_path), True)
    assert asked == ["https://rajpurkar.github.io"]
