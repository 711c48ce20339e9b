"""Why a model answered what it did: Shapley values of its features, and saliency of the parts of an image.

`trees` reads an ensemble of trees back from its ONNX graph and `tree_shap` explains it exactly; `sampled_shap` explains any
model within a budget and says how far off it may be; `occlusion` covers parts of an image. `explainer` chooses and remembers,
`functions` are what SQL calls.
"""
