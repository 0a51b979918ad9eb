"""The pictures of the Library's cards."""

from PIL import Image

from studio.components.thumbnails import thumbnail


def test_a_picture_that_was_gone_is_shown_once_it_is_put_back(tmp_path):
    path = tmp_path / "one.png"
    assert thumbnail(str(path), "sha") == ""
    Image.new("RGB", (500, 300)).save(path)
    shown = thumbnail(str(path), "sha")
    assert shown.startswith("data:image/webp;base64,")
    path.unlink()
    assert thumbnail(str(path), "sha") == shown  # made once
