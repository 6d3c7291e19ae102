"""`Pipeline.show` and `tfjax show`: a picture of what a pipeline yields."""

from tfjax.tools.show.parts import Given as Given
from tfjax.tools.show.picture import Picture as Picture
from tfjax.tools.show.picture import show as show
